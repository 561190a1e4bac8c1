//! The file of a recording: `tests/fixtures/recorded/<version>/<name>.json`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::repository;

/// One build, from the builder's enrolment to the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording {
    /// Kind of the build's outcome.
    pub outcome: String,
    /// Calls of `/builder/v1`, in the order of their answers.
    pub exchanges: Vec<Exchange>,
    /// Messages of all exchanges, in the order in which the broker had them.
    pub messages: Vec<Message>,
}

/// A call and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exchange {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The lease that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The digest that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What was sent.
    pub body: Body,
    /// The answer's status.
    pub status: u16,
    /// What was answered.
    pub answer: Body,
}

/// A body; of bytes only their number is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// JSON.
    Json(Value),
    /// So many bytes.
    Bytes(usize),
}

/// A message on the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties.
    pub properties: Value,
    /// Its body.
    pub body: Value,
}

impl Recording {
    /// Reads one of a release.
    pub fn read(version: &str, name: &str) -> Self {
        let path = Self::path(version, name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Writes one of a release, with secrets replaced by words: nobody can use them, and nobody has to wonder.
    pub fn write(&self, version: &str, name: &str) {
        let path = Self::path(version, name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = serde_json::to_string_pretty(self).unwrap();
        for (word, secret) in self.secrets() {
            text = text.replace(&secret, word);
        }
        std::fs::write(path, text + "\n").unwrap();
    }

    /// The calls of a kind of path.
    pub fn calls(&self, part: &str) -> impl Iterator<Item = &Exchange> {
        let part = part.to_owned();
        self.exchanges
            .iter()
            .filter(move |exchange| exchange.path.contains(&part))
    }

    /// The messages of an exchange.
    pub fn messages(&self, exchange: &str) -> impl Iterator<Item = &Message> {
        let exchange = exchange.to_owned();
        self.messages
            .iter()
            .filter(move |message| message.exchange == exchange)
    }

    /// The whole with some words replaced by others.
    #[must_use]
    pub fn with(&self, words: &[(String, String)]) -> Self {
        let mut text = serde_json::to_string(self).unwrap();
        for (old, new) in words {
            text = text.replace(old, new);
        }
        serde_json::from_str(&text).unwrap()
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        let field = |path: &str, answer: bool, field: &str| {
            let call = self.calls(path).next()?;
            let body = if answer { &call.answer } else { &call.body };
            match body {
                Body::Json(json) => json[field].as_str().map(str::to_owned),
                Body::Bytes(_) => None,
            }
        };
        [
            (
                "recorded-token-before",
                field("/enrol", false, "previous_token"),
            ),
            ("recorded-token", field("/enrol", true, "token")),
            ("recorded-nonce", field("/claim", false, "nonce")),
            ("recorded-lease", field("/claim", true, "lease_token")),
            ("recorded-engine", field("/enrol", false, "engine_id")),
        ]
        .into_iter()
        .filter_map(|(word, secret)| Some((word, secret?)))
        .collect()
    }

    fn path(version: &str, name: &str) -> PathBuf {
        repository().join(format!("tests/fixtures/recorded/{version}/{name}.json"))
    }
}

/// Bytes in place of those that were not kept.
pub fn filler(size: usize) -> Vec<u8> {
    b"recorded\n".iter().copied().cycle().take(size).collect()
}

/// Whether an answer still has all that an earlier reader found in the recorded one: each field, of the same type. Of
/// lists the first entries are compared.
pub fn covers(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => then
            .iter()
            .all(|(name, then)| now.get(name).is_some_and(|now| covers(now, then))),
        (Value::Array(now), Value::Array(then)) => then
            .first()
            .is_none_or(|then| now.first().is_some_and(|now| covers(now, then))),
        (now, Value::Null) => !now.is_object(),
        (now, then) => std::mem::discriminant(now) == std::mem::discriminant(then),
    }
}

#[cfg(test)]
mod tests {
    use super::covers;
    use serde_json::json;

    #[test]
    fn more_is_fine_and_less_is_not() {
        let then = json!({ "a": [{ "b": 1 }] });
        assert!(covers(
            &json!({ "a": [{ "b": 2, "c": true }], "d": null }),
            &then
        ));
        assert!(!covers(&json!({ "a": [{ "c": 1 }] }), &then));
        assert!(!covers(&json!({ "a": [{ "b": "1" }] }), &then));
        assert!(!covers(&json!({ "a": [] }), &then));
    }
}
