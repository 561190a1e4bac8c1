//! Parked messages as text.

use serde_json::Value;

use crate::render::text::{items, push_line, str_field};

/// One line per message: its number, when and from which queue it was parked, and why.
pub fn list(page: &Value) -> String {
    items(page, "nothing is parked", |message| {
        let mut out = String::new();
        let text = format!(
            "{:>6}  {}  {}  {}",
            message["id"],
            str_field(message, "parked_at"),
            str_field(message, "queue"),
            str_field(message, "reason")
        );
        push_line(&mut out, &text);
        out
    })
}
