//! Parked messages as text.

use serde_json::Value;

use crate::render::text::{items, push_line, str_field};

/// One line per message: its number, when and from which queue it was parked, and why.
pub fn list(page: &Value) -> String {
    items(page, "nothing is parked", |message| {
        let mut out = String::new();
        let text = format!(
            "{}  {}  {}  {}",
            message["id"],
            str_field(message, "parked_at"),
            str_field(message, "queue"),
            str_field(message, "reason")
        );
        push_line(&mut out, &text);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_parked_message_is_a_line_with_its_reason() {
        let page = json!({"items": [{"id": 12, "parked_at": "2026-01-02T03:04:05Z",
            "queue": "results", "reason": "no such attempt\u{7}"}]});
        assert_eq!(
            list(&page),
            "12  2026-01-02T03:04:05Z  results  no such attempt\u{fffd}\n"
        );
        assert_eq!(list(&json!({"items": []})), "nothing is parked\n");
    }
}
