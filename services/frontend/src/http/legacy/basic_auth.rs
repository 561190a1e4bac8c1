//! HTTP basic authentication as pollers send it: any user name, and the poller's password.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use millrace_domain::Token;

use crate::http::extract::header_text;

/// RFC 4648, section 4, with or without its padding: clients of that time differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// User name and password of a request.
#[derive(Debug)]
pub struct Credentials {
    /// User name, for the log only.
    pub user: String,
    /// Password, which identifies the poller.
    pub secret: Token,
}

/// Reads the credentials of a request; none where the header is absent or malformed.
pub fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let (scheme, encoded) = header_text(headers, &AUTHORIZATION)?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
    let (user, secret) = text.split_once(':')?;
    Some(Credentials {
        user: user.to_owned(),
        secret: Token::new(secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(value: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        credentials(&headers).map(|c| (c.user, c.secret.expose().to_owned()))
    }

    #[test]
    fn user_and_password_are_divided_by_the_first_colon() {
        let pair = |user: &str, secret: &str| Some((user.to_owned(), secret.to_owned()));
        assert_eq!(read("Basic dXNlcjpwYXNz"), pair("user", "pass"));
        assert_eq!(read("basic dTphOmI="), pair("u", "a:b"));
        assert_eq!(read("Basic Og=="), pair("", ""));
        for bad in ["Bearer dXNlcjpwYXNz", "Basic", "Basic !", "Basic dXNlcg=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
