//! The service itself as text: parked messages, builders, the status.

use serde_json::Value;

use super::{items, line, word};

/// A line for each parked message.
pub fn parked(page: &Value) -> String {
    items(page, "nothing is parked", |message| {
        let mut out = String::new();
        let text = format!(
            "{:>6}  {}  {}  {}",
            message["id"],
            word(message, "parked_at"),
            word(message, "queue"),
            word(message, "reason")
        );
        line(&mut out, &text);
        out
    })
}

/// A line for each builder.
pub fn builders(list: &Value) -> String {
    items(list, "there is no builder", builder)
}

/// A builder in a line.
pub fn builder(builder: &Value) -> String {
    let mut out = String::new();
    let text = format!(
        "{}  {}  {}  {} of {} sandboxes free  {} of {} MB free",
        word(builder, "id"),
        word(builder, "name"),
        standing(builder),
        builder["free_sandboxes"],
        builder["sandboxes"],
        builder["free_mib"],
        builder["memory_mib"],
    );
    line(&mut out, &text);
    out
}

/// What keeps a builder from taking work, the lasting things first.
fn standing(builder: &Value) -> String {
    let mut told = Vec::new();
    if !builder["drained_at"].is_null() {
        told.push("drained".to_owned());
    }
    if !builder["set_aside_at"].is_null() {
        told.push(format!("set aside ({})", word(builder, "set_aside_reason")));
    }
    if builder["live"] == Value::Bool(false) {
        told.push(format!("away since {}", word(builder, "last_seen_at")));
    } else if builder["stopping"] == Value::Bool(true) {
        told.push("stopping".to_owned());
    }
    if told.is_empty() {
        "ready".to_owned()
    } else {
        told.join(", ")
    }
}

/// The status, one fact a line.
pub fn status(status: &Value) -> String {
    let mut out = String::new();
    flatten(&mut out, "", status);
    out
}

fn flatten(out: &mut String, name: &str, value: &Value) {
    let child = |key: &str| {
        if name.is_empty() {
            key.to_owned()
        } else {
            format!("{name}.{key}")
        }
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, v)| flatten(out, &child(key), v)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| flatten(out, &child(&i.to_string()), v)),
        Value::String(text) => line(out, &format!("{name}: {text}")),
        Value::Null => line(out, &format!("{name}: -")),
        Value::Bool(_) | Value::Number(_) => line(out, &format!("{name}: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_fact_by_fact() {
        let text =
            status(&serde_json::json!({"broker": {"state": "up"}, "builders": [{"name": "b1"}]}));
        assert_eq!(text, "broker.state: up\nbuilders.0.name: b1\n");
    }
}
