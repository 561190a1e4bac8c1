//! `millrace import FILE`: builds of another site.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::args::Import;
use crate::commands::print;
use crate::config::Config;
use crate::exit::{Ending, Usage};

/// Builds in one request.
const BATCH: usize = 200;

/// Sends the file's builds, some at a time; a repeat goes on where an earlier run stopped.
pub async fn run(config: &Config, command: Import, json: bool) -> anyhow::Result<Ending> {
    let builds = read(&command.file)?;
    let mut sums = json!({"imported": [], "known": [], "released": []});
    for batch in builds.chunks(BATCH) {
        let body = json!({"builds": batch, "release": command.release, "poller": command.poller});
        let answer: Value = config.api.post("/api/v1/imports", &body).await?;
        for key in ["imported", "known", "released"] {
            if let (Some(sum), Some(more)) = (sums[key].as_array_mut(), answer[key].as_array()) {
                sum.extend(more.iter().cloned());
            }
        }
    }
    print(json, &sums, || {
        let count = |key: &str| sums[key].as_array().map_or(0, Vec::len);
        format!(
            "{} builds imported, {} were here, {} released\n",
            count("imported"),
            count("known"),
            count("released")
        )
    });
    Ok(Ending::Done)
}

fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
    let mut list: Value = serde_json::from_str(&text)
        .map_err(|error| Usage(format!("{} is no JSON: {error}", path.display())))?;
    match list["builds"].take() {
        Value::Array(builds) if !builds.is_empty() => Ok(builds),
        _ => Err(Usage(
            "expected an object with the list `builds`, as /waiting_builds/ gives it".to_owned(),
        ))
        .with_context(|| path.display().to_string()),
    }
}
