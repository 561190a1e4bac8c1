//! Lines of text that cannot harm a terminal.

use std::fmt::Write;

use serde_json::Value;

/// Text without carriage returns, and with U+FFFD for each other control character but newline and tab, and for each
/// character that changes the direction of text.
pub fn sanitize(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| {
            if changes_direction(c) || (c.is_control() && c != '\n' && c != '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

const fn changes_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Adds one line; newlines inside of it become spaces.
pub fn push_line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", sanitize(text).replace('\n', " "));
}

/// A field that is text; empty where it is absent or anything else.
pub fn str_field<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or("")
}

/// The text of each item of a page, or the sentence `if_empty` where there is none.
pub fn items(page: &Value, if_empty: &str, item: impl Fn(&Value) -> String) -> String {
    let out: String = (page["items"].as_array().into_iter().flatten())
        .map(item)
        .collect();
    if out.is_empty() {
        format!("{if_empty}\n")
    } else {
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_no_harm() {
        assert_eq!(sanitize("a\x1b[2Jb\r\n\tc"), "a\u{fffd}[2Jb\n\tc");
        assert_eq!(sanitize("\u{9b}2J\u{202e}mpr.a"), "\u{fffd}2J\u{fffd}mpr.a");
    }

    #[test]
    fn a_line_stays_one_line() {
        let mut out = String::new();
        push_line(&mut out, "a\nb\r\nc");
        assert_eq!(out, "a b c\n");
    }

    #[test]
    fn a_page_without_items_is_a_sentence() {
        let one = |item: &Value| format!("{item}\n");
        assert_eq!(
            items(&serde_json::json!({"items": [1, 2]}), "none", one),
            "1\n2\n"
        );
        for page in [serde_json::json!({"items": []}), serde_json::json!({})] {
            assert_eq!(items(&page, "none", one), "none\n");
        }
    }

    #[test]
    fn a_field_that_is_not_text_is_empty() {
        let object = serde_json::json!({"name": "b1", "size": 1});
        assert_eq!(str_field(&object, "name"), "b1");
        assert_eq!(
            (str_field(&object, "size"), str_field(&object, "x")),
            ("", "")
        );
    }
}
