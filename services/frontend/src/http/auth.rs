//! Who may do what. Reads are open; every write needs the admin token; `/builder/v1` needs a builder's token, and
//! enrolment its own. Tokens are compared as digests, in constant time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use millrace_domain::{BuilderId, Token, TokenHash};

use crate::error::ApiError;
use crate::http::extract::header_text;
use crate::state::AppState;

/// How long a builder's token is believed without asking the database again.
const BELIEVED: Duration = Duration::from_secs(30);
/// Tokens remembered at most.
const REMEMBERED: usize = 10_000;

/// The caller holds the admin token.
pub struct Admin;

/// The caller holds the enrolment token.
pub struct Enroller;

/// The caller is an enrolled builder.
#[derive(Debug, Clone, Copy)]
pub struct BuilderCaller(pub BuilderId);

/// Builders seen lately, so that heartbeats and claims cost one look-up less.
#[derive(Default)]
pub struct BuilderCache(Mutex<HashMap<[u8; 32], (BuilderId, Instant)>>);

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        check(parts, &state.secrets.admin, "MILLRACE_TOKEN").map(|()| Self)
    }
}

impl FromRequestParts<AppState> for Enroller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        check(parts, &state.secrets.enrol, "MILLRACE_ENROL_TOKEN").map(|()| Self)
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
        if let Some(id) = state.builders.get(hash) {
            return Ok(Self(id));
        }
        match state.store.builder_by_token(&hash).await? {
            Some(builder) => {
                state.builders.put(hash, builder.id);
                Ok(Self(builder.id))
            }
            None => Err(refused),
        }
    }
}

impl BuilderCache {
    fn get(&self, hash: TokenHash) -> Option<BuilderId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&hash.0)
            .filter(|(_, seen)| seen.elapsed() < BELIEVED)
            .map(|(id, _)| *id)
    }

    fn put(&self, hash: TokenHash, id: BuilderId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, seen)| seen.elapsed() < BELIEVED);
        }
        if known.len() < REMEMBERED {
            known.insert(hash.0, (id, Instant::now()));
        }
    }

    /// Forgets a builder's tokens: it has enrolled for a new one.
    pub fn forget(&self, id: BuilderId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (other, _)| *other != id);
    }
}

fn check(parts: &Parts, expected: &TokenHash, name: &'static str) -> Result<(), ApiError> {
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
        assert!(check(&parts("Bearer right-one"), &expected, "T").is_ok());
        assert!(check(&parts("bearer right-one"), &expected, "T").is_ok());
        for bad in [
            "Bearer wrong",
            "Basic right-one",
            "right-one",
            "Bearer ",
            "",
        ] {
            assert!(check(&parts(bad), &expected, "T").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_builder_that_enrols_anew_loses_its_old_token() {
        let cache = BuilderCache::default();
        let (id, hash) = (BuilderId::generate(), Token::new("x").hash());
        cache.put(hash, id);
        assert_eq!(cache.get(hash), Some(id));
        cache.forget(id);
        assert_eq!(cache.get(hash), None);
    }
}
