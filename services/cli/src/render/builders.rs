//! Builders as text.

use serde_json::Value;

use crate::render::text::{items, push_line, str_field};

/// One line per builder.
pub fn list(page: &Value) -> String {
    items(page, "there is no builder", one)
}

/// A builder's id, name, availability, free sandboxes and free memory in one line.
pub fn one(builder: &Value) -> String {
    let mut out = String::new();
    let text = format!(
        "{}  {}  {}  {} of {} sandboxes free  {} of {} MB free",
        str_field(builder, "id"),
        str_field(builder, "name"),
        availability(builder),
        builder["free_sandboxes"],
        builder["sandboxes"],
        builder["free_mib"],
        builder["memory_mib"],
    );
    push_line(&mut out, &text);
    out
}

/// Why a builder takes no work, or `ready`. Reasons that last over restarts come first; a builder that is away is not
/// called stopping as well.
fn availability(builder: &Value) -> String {
    let mut reasons = Vec::new();
    if !builder["drained_at"].is_null() {
        reasons.push("drained".to_owned());
    }
    if !builder["set_aside_at"].is_null() {
        reasons.push(format!(
            "set aside ({})",
            str_field(builder, "set_aside_reason")
        ));
    }
    if builder["live"] == Value::Bool(false) {
        reasons.push(format!("away since {}", str_field(builder, "last_seen_at")));
    } else if builder["stopping"] == Value::Bool(true) {
        reasons.push("stopping".to_owned());
    }
    if reasons.is_empty() {
        "ready".to_owned()
    } else {
        reasons.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn builder(changes: &Value) -> Value {
        let mut builder = json!({"id": "u1", "name": "b1", "live": true, "stopping": false,
            "drained_at": null, "set_aside_at": null, "free_sandboxes": 3, "sandboxes": 4,
            "free_mib": 2048, "memory_mib": 8192, "last_seen_at": "10:00"});
        for (key, value) in changes.as_object().unwrap() {
            builder[key] = value.clone();
        }
        builder
    }

    #[test]
    fn a_builder_is_shown_with_its_free_room() {
        assert_eq!(
            one(&builder(&json!({}))),
            "u1  b1  ready  3 of 4 sandboxes free  2048 of 8192 MB free\n"
        );
        let none = json!({"items": []});
        assert_eq!(list(&none), "there is no builder\n");
    }

    #[test]
    fn each_reason_to_take_no_work_is_named() {
        for (changes, told) in [
            (json!({"drained_at": "09:00"}), "drained"),
            (
                json!({"set_aside_at": "09:00", "set_aside_reason": "disk full"}),
                "set aside (disk full)",
            ),
            (json!({"stopping": true}), "stopping"),
            (json!({"live": false, "stopping": true}), "away since 10:00"),
            (
                json!({"drained_at": "09:00", "live": false}),
                "drained, away since 10:00",
            ),
        ] {
            assert_eq!(availability(&builder(&changes)), told);
        }
    }

    #[test]
    fn a_builder_cannot_write_to_the_terminal_or_add_lines() {
        let line = one(&builder(&json!({"name": "b\u{1b}[2J\nu2  b2"})));
        assert!(line.starts_with("u1  b\u{fffd}[2J u2  b2  ready"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
