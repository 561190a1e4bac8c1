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
