//! HTTP basic as the poller sends it: any user name, and the password.

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

/// What a poller says of itself.
#[derive(Debug)]
pub struct Credentials {
    /// Any name; it decides nothing.
    pub user: String,
    /// The password.
    pub secret: Token,
}

/// The credentials of a request, if it has any that can be read.
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
