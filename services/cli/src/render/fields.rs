//! Any object as text, one field a line, for answers that are read by field name: the status, projects, pollers.

use serde_json::Value;

use crate::render::text::push_line;

/// One line `name: value` for each field; names of fields inside of others are joined by dots, and items of lists are
/// named by their position.
pub fn lines(object: &Value) -> String {
    let mut out = String::new();
    flatten(&mut out, "", object);
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
        Value::String(text) => push_line(out, &format!("{name}: {text}")),
        Value::Null => push_line(out, &format!("{name}: -")),
        Value::Bool(_) | Value::Number(_) => push_line(out, &format!("{name}: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_fact_by_fact() {
        let text =
            lines(&serde_json::json!({"broker": {"state": "up"}, "builders": [{"name": "b1"}]}));
        assert_eq!(text, "broker.state: up\nbuilders.0.name: b1\n");
    }

    #[test]
    fn what_is_not_text_is_shown_as_it_is_and_null_as_a_dash() {
        let text = lines(&serde_json::json!([1.5, false, null, []]));
        assert_eq!(text, "0: 1.5\n1: false\n2: -\n");
    }

    #[test]
    fn a_text_with_newlines_cannot_pass_for_another_field() {
        let text = lines(&serde_json::json!({"name": "x\nstate: up"}));
        assert_eq!(text, "name: x state: up\n");
    }
}
