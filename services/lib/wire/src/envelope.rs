//! The envelope around each message. Kind and version are checked before the body is read, so that an unknown message is
//! parked with that reason and not as a broken one.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::control::ControlV1;
use crate::finished::FinishedV1;
use crate::job::JobV1;

/// What every message carries before its body. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Envelope<B> {
    /// Id of the message; the same when it is published or delivered again.
    pub id: Uuid,
    /// What the body is: `job`, `finished` or `control`.
    pub kind: String,
    /// The body's version, from 1.
    pub version: u32,
    /// When the message was made.
    pub time: DateTime<Utc>,
    /// W3C `traceparent` of the request or message that caused this one.
    #[serde(default)]
    pub trace_context: Option<String>,
    /// The body, by kind and version.
    pub body: B,
}

/// A body that has a kind and a version.
pub trait Message: Serialize + DeserializeOwned {
    /// The word that `kind` has in this message's envelope.
    const KIND: &'static str;
    /// The version of this type.
    const VERSION: u32;
}

impl Message for JobV1 {
    const KIND: &'static str = "job";
    const VERSION: u32 = 1;
}

impl Message for FinishedV1 {
    const KIND: &'static str = "finished";
    const VERSION: u32 = 1;
}

impl Message for ControlV1 {
    const KIND: &'static str = "control";
    const VERSION: u32 = 1;
}

/// Why a message cannot be decoded; the text is the reason with which it is parked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or no envelope.
    #[error("unparsable: {0}")]
    Unparsable(String),
    /// Another kind than this queue carries.
    #[error("unknown kind '{0}', expected '{1}'")]
    UnknownKind(String, &'static str),
    /// A version that this program does not read, because it is newer or too old.
    #[error("{0} version {1} is not supported, expected {2}")]
    UnsupportedVersion(&'static str, u32, u32),
    /// The body does not fit its kind and version.
    #[error("invalid {0} body: {1}")]
    InvalidBody(&'static str, String),
}

/// Serialises a message in its envelope.
pub fn encode<B: Message>(
    id: Uuid,
    time: DateTime<Utc>,
    body: &B,
) -> Result<Value, serde_json::Error> {
    serde_json::to_value(Envelope {
        id,
        kind: B::KIND.to_owned(),
        version: B::VERSION,
        time,
        trace_context: None,
        body,
    })
}

/// Reads a message of the one kind that a queue carries.
pub fn decode<B: Message>(bytes: &[u8]) -> Result<Envelope<B>, DecodeError> {
    let raw: Envelope<Value> =
        serde_json::from_slice(bytes).map_err(|e| DecodeError::Unparsable(e.to_string()))?;
    if raw.kind != B::KIND {
        return Err(DecodeError::UnknownKind(
            raw.kind.chars().take(60).collect(),
            B::KIND,
        ));
    }
    if raw.version != B::VERSION {
        return Err(DecodeError::UnsupportedVersion(
            B::KIND,
            raw.version,
            B::VERSION,
        ));
    }
    let body = serde_json::from_value(raw.body)
        .map_err(|e| DecodeError::InvalidBody(B::KIND, e.to_string()))?;
    Ok(Envelope {
        id: raw.id,
        kind: raw.kind,
        version: raw.version,
        time: raw.time,
        trace_context: raw.trace_context,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn bytes(value: &Value) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[test]
    fn a_message_survives_its_journey() {
        let job = samples::job();
        let value = encode(Uuid::nil(), samples::time(), &job).unwrap();
        assert_eq!(decode::<JobV1>(&bytes(&value)).unwrap().body, job);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let mut value = encode(Uuid::nil(), samples::time(), &samples::job()).unwrap();
        value["later"] = Value::from(1);
        value["body"]["later"] = Value::from(1);
        assert!(decode::<JobV1>(&bytes(&value)).is_ok());
    }

    #[test]
    fn each_misfit_has_its_own_reason() {
        assert!(matches!(
            decode::<JobV1>(b"\xff{"),
            Err(DecodeError::Unparsable(_))
        ));
        let mut value = encode(Uuid::nil(), samples::time(), &samples::job()).unwrap();
        value["version"] = Value::from(2);
        assert_eq!(
            decode::<JobV1>(&bytes(&value)),
            Err(DecodeError::UnsupportedVersion("job", 2, 1))
        );
        value["kind"] = Value::from("gossip");
        assert!(matches!(
            decode::<JobV1>(&bytes(&value)),
            Err(DecodeError::UnknownKind(..))
        ));
        let value = serde_json::json!({"id": Uuid::nil(), "kind": "job", "version": 1, "time": samples::time(), "body": {}});
        assert!(matches!(
            decode::<JobV1>(&bytes(&value)),
            Err(DecodeError::InvalidBody(..))
        ));
    }
}
