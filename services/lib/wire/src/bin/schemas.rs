//! Writes `schemas/` from the types: one JSON Schema for each message and each call of `/builder/v1`, and a sample the
//! first time a version appears. A released sample is never rewritten.

use std::fs;
use std::io;
use std::path::Path;

use millrace_wire::{ControlV1, Envelope, FinishedV1, JobV1, Message, encode, samples};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

fn main() -> io::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "schemas".to_owned());
    let folder = Path::new(&folder);
    write::<JobV1>(folder, &samples::job())?;
    write::<FinishedV1>(folder, &samples::finished())?;
    write::<ControlV1>(folder, &samples::control())?;
    samples::builder_api(&mut BuilderApi(folder))
}

/// Writes the calls of `/builder/v1`, whose version is in their path.
struct BuilderApi<'a>(&'a Path);

impl samples::Visitor for BuilderApi<'_> {
    type Error = io::Error;

    fn visit<T>(&mut self, name: &str, sample: &T) -> io::Result<()>
    where
        T: Serialize + DeserializeOwned + JsonSchema,
    {
        let home = self.0.join("builder").join("v1");
        let schema = serde_json::to_value(schemars::schema_for!(T))?;
        put(&home.join(format!("{name}.schema.json")), &schema)?;
        put_sample(
            &home.join("samples").join(format!("{name}.json")),
            &serde_json::to_value(sample)?,
        )
    }
}

fn write<B: Message + schemars::JsonSchema>(folder: &Path, sample: &B) -> io::Result<()> {
    let home = folder.join(B::KIND);
    let schema = serde_json::to_value(schemars::schema_for!(Envelope<B>))?;
    put(&home.join(format!("v{}.schema.json", B::VERSION)), &schema)?;
    let sample_path = home.join("samples").join(format!("v{}.json", B::VERSION));
    put_sample(
        &sample_path,
        &encode(Uuid::from_u128(1), samples::time(), sample)?,
    )
}

fn put_sample(path: &Path, sample: &Value) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    put(path, sample)
}

fn put(path: &Path, value: &Value) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, format!("{}\n", serde_json::to_string_pretty(value)?))
}
