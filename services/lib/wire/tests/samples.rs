//! Every sample ever released decodes for ever, and what is sent now holds all that was sent then.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use millrace_wire::{ControlV1, FinishedV1, JobV1, Message, decode, samples};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn schemas() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../schemas")
}

fn decode_all<B: Message>() {
    let folder = schemas().join(B::KIND).join("samples");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let decoded =
            decode::<B>(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let old: Value = serde_json::from_slice(&bytes).unwrap();
        let new = serde_json::to_value(&decoded.body).unwrap();
        assert_holds(&new, &old["body"], &path, "body");
        seen += 1;
    }
    assert!(seen > 0, "{} holds no sample", folder.display());
}

/// Everything of the old value is in the new one: a field may come, none may go or change.
fn assert_holds(new: &Value, old: &Value, file: &Path, at: &str) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (key, value) in old {
                let at = format!("{at}.{key}");
                let found = new
                    .get(key)
                    .unwrap_or_else(|| panic!("{}: {at} is not sent any more", file.display()));
                assert_holds(found, value, file, &at);
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            assert_eq!(new.len(), old.len(), "{}: {at}", file.display());
            for (new, old) in new.iter().zip(old) {
                assert_holds(new, old, file, at);
            }
        }
        _ => assert_eq!(new, old, "{}: {at}", file.display()),
    }
}

#[test]
fn released_samples_decode() {
    decode_all::<JobV1>();
    decode_all::<FinishedV1>();
    decode_all::<ControlV1>();
}

struct BuilderApi(usize);

impl samples::Visitor for BuilderApi {
    type Error = Infallible;

    fn visit<T>(&mut self, name: &str, _: &T) -> Result<(), Infallible>
    where
        T: Serialize + DeserializeOwned + JsonSchema,
    {
        let file = schemas().join(format!("builder/v1/samples/{name}.json"));
        let old: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let decoded: T = serde_json::from_value(old.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_holds(&serde_json::to_value(&decoded).unwrap(), &old, &file, "");
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn released_calls_of_builders_decode() {
    let mut calls = BuilderApi(0);
    let Ok(()) = samples::builder_api(&mut calls);
    let folder = schemas().join("builder/v1/samples");
    let released = fs::read_dir(folder).unwrap().count();
    assert_eq!(calls.0, released, "a released call is not known any more");
}
