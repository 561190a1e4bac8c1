//! HTTP basic as the poller sends it: any user name, and the password.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use millrace_domain::Token;

use crate::extract::header_text;

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
    let text = String::from_utf8(decode(encoded.trim())?).ok()?;
    let (user, secret) = text.split_once(':')?;
    Some(Credentials {
        user: user.to_owned(),
        secret: Token::new(secret),
    })
}

/// Base64 of RFC 4648, section 4, with or without its padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0u32, 0u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
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
