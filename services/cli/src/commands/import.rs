//! `millrace import FILE`: builds of another site.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::args::legacy::Import;
use crate::config::Config;
use crate::error::UsageError;
use crate::exit::Ending;
use crate::output::Output;

/// Builds in one request.
const BATCH: usize = 200;
/// The lists of build numbers in the server's answer to each request.
const LISTS: [&str; 3] = ["imported", "known", "released"];

/// Sends the file's builds in batches. The server knows what it has, so a repeat goes on where an earlier run stopped.
pub async fn run(config: &Config, command: Import, output: Output) -> anyhow::Result<Ending> {
    let builds = read(&command.file)?;
    let mut sums = json!({"imported": [], "known": [], "released": []});
    for batch in builds.chunks(BATCH) {
        let body = json!({"builds": batch, "release": command.release, "poller": command.poller});
        let answer = config.client.post_once("/api/v1/imports", &body).await?;
        add(&mut sums, &answer);
    }
    output.print(&sums, || summary(&sums));
    Ok(Ending::Done)
}

fn add(sums: &mut Value, answer: &Value) {
    for key in LISTS {
        if let (Some(sum), Some(more)) = (sums[key].as_array_mut(), answer[key].as_array()) {
            sum.extend(more.iter().cloned());
        }
    }
}

fn summary(sums: &Value) -> String {
    let [imported, known, released] = LISTS.map(|key| sums[key].as_array().map_or(0, Vec::len));
    format!("{imported} builds imported, {known} were here, {released} released\n")
}

fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| UsageError(format!("cannot read {}: {error}", path.display())))?;
    let mut list: Value = serde_json::from_str(&text)
        .map_err(|error| UsageError(format!("{} is not JSON: {error}", path.display())))?;
    match list["builds"].take() {
        Value::Array(builds) if !builds.is_empty() => Ok(builds),
        _ => Err(UsageError(
            "expected an object with the list `builds`, as /waiting_builds/ gives it".to_owned(),
        ))
        .with_context(|| path.display().to_string()),
    }
}
