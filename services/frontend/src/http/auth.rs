//! Authentication as extractors. Reads are open; every write needs the admin token; `/builder/v1` needs the token of a
//! builder, and enrolment its own. Tokens are compared as digests, in constant time.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use millrace_domain::{BuilderId, Token, TokenHash};

use crate::error::ApiError;
use crate::http::extract::header_text;
use crate::state::AppState;

/// The caller has the admin token (`MILLRACE_TOKEN`).
pub struct Admin;

/// The caller has the enrolment token (`MILLRACE_ENROL_TOKEN`).
pub struct Enroller;

/// The caller is this builder, by the token from its enrolment.
#[derive(Debug, Clone, Copy)]
pub struct BuilderCaller(pub BuilderId);

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        require_token(parts, &state.secrets.admin, "MILLRACE_TOKEN").map(|()| Self)
    }
}

impl FromRequestParts<AppState> for Enroller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        require_token(parts, &state.secrets.enrol, "MILLRACE_ENROL_TOKEN").map(|()| Self)
    }
}

impl FromRequestParts<AppState> for BuilderCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let refused = ApiError::Unauthenticated {
            expected: "token from enrolment",
        };
        let Some(token) = bearer(parts) else {
            return Err(refused);
        };
        let hash = token.hash();
        if let Some(id) = state.builder_tokens.get(hash) {
            return Ok(Self(id));
        }
        match state.store.builder_by_token(&hash).await? {
            Some(builder) => {
                state.builder_tokens.put(hash, builder.id);
                Ok(Self(builder.id))
            }
            None => Err(refused),
        }
    }
}

fn require_token(parts: &Parts, expected: &TokenHash, name: &'static str) -> Result<(), ApiError> {
    match bearer(parts) {
        Some(token) if token.hash() == *expected => Ok(()),
        _ => Err(ApiError::Unauthenticated { expected: name }),
    }
}

fn bearer(parts: &Parts) -> Option<Token> {
    let (scheme, token) = header_text(&parts.headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| Token::new(token.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(value: &str) -> Parts {
        let request = Request::builder()
            .header(AUTHORIZATION, value)
            .body(())
            .unwrap();
        request.into_parts().0
    }

    #[test]
    fn only_the_very_token_opens() {
        let expected = Token::new("right-one").hash();
        assert!(require_token(&parts("Bearer right-one"), &expected, "T").is_ok());
        assert!(require_token(&parts("bearer right-one"), &expected, "T").is_ok());
        for bad in [
            "Bearer wrong",
            "Basic right-one",
            "right-one",
            "Bearer ",
            "",
        ] {
            assert!(
                require_token(&parts(bad), &expected, "T").is_err(),
                "{bad:?}"
            );
        }
    }
}
