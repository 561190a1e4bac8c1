//! Redacts secrets in parked messages, which people will read: fields by their names, and in any text each unbroken
//! run of letters and digits that is as long as a token.

use serde_json::Value;

/// The text that replaces each secret.
const REDACTED: &str = "[redacted]";
/// Longest result, in bytes; the rest is cut off.
const MAX_BYTES: usize = 16 * 1024;
/// An unbroken word from this length on may be a token.
const TOKEN_LENGTH: usize = 32;

/// A message as text without secrets, capped, and without characters that a database refuses.
pub fn redact(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            redact_value(&mut value, "");
            value.to_string()
        }
        Err(_) => redact_text(&String::from_utf8_lossy(
            &body[..body.len().min(MAX_BYTES * 2)],
        )),
    };
    let mut clean: String = text
        .chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    if clean.len() > MAX_BYTES {
        let cut = clean.floor_char_boundary(MAX_BYTES);
        clean.truncate(cut);
        clean.push('…');
    }
    clean
}

fn redact_value(value: &mut Value, key: &str) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if is_secret(key) {
                    *field = REDACTED.into();
                } else {
                    redact_value(field, key);
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|e| redact_value(e, key)),
        // Digests look like tokens, and people need them.
        Value::String(text) if !key.contains("sha256") && !key.contains("digest") => {
            *text = redact_text(text);
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "token",
        "secret",
        "password",
        "authorization",
        "nonce",
        "lease",
        "cookie",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// Replaces each unbroken run of letters and digits that is as long as a token.
fn redact_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        clean.push_str(if word.len() >= TOKEN_LENGTH {
            REDACTED
        } else {
            &word
        });
        word.clear();
        clean.push(c);
    }
    clean.pop();
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_domain::Token;

    #[test]
    fn a_report_loses_its_lease_token_and_keeps_the_rest() {
        let report = millrace_wire::samples::finished();
        let secret = Token::from_bytes([0xab; 32]);
        let mut value = serde_json::to_value(&report).unwrap();
        value["lease_token"] = secret.expose().into();
        value["outcome"]["message"] = format!("said {}", secret.expose()).into();
        let text = redact(value.to_string().as_bytes());
        assert!(!text.contains(secret.expose()), "{text}");
        assert!(text.contains(&report.attempt_id.to_string()));
        assert!(text.contains(&"0".repeat(64)), "digests stay: {text}");
    }

    #[test]
    fn broken_json_loses_whatever_looks_like_a_token() {
        let secret = Token::from_bytes([0xcd; 32]);
        let text = redact(format!("{{\"lease_token\":\"{}\", oops", secret.expose()).as_bytes());
        assert_eq!(text, "{\"lease_token\":\"[redacted]\", oops");
    }

    #[test]
    fn any_bytes_become_a_text_that_a_database_takes() {
        let text = redact(&[0, 0xff, b'a', 0x1b]);
        assert!(!text.contains('\0') && text.contains('a'));
        assert!(redact(&vec![b' '; 1 << 20]).len() <= MAX_BYTES + 4);
    }
}
