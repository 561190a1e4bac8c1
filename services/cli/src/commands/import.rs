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
    match list.get_mut("builds").map(Value::take) {
        Some(Value::Array(builds)) if !builds.is_empty() => Ok(builds),
        _ => Err(UsageError(
            "expected an object with the list `builds`, as /waiting_builds/ gives it".to_owned(),
        ))
        .with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::code_of_error;
    use crate::testing::config;
    use crate::testing::server::{self, Server};

    fn command(path: &Path) -> Import {
        Import {
            file: path.to_owned(),
            release: false,
            poller: Some("p1".to_owned()),
        }
    }

    #[tokio::test]
    async fn builds_are_sent_in_batches_in_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("builds.json");
        let builds: Vec<Value> = (0..=BATCH).map(|id| json!({ "id": id })).collect();
        std::fs::write(&path, json!({ "builds": builds }).to_string()).unwrap();
        let server = Server::start(|_| server::json(&json!({"imported": []}))).await;
        run(&config(&server), command(&path), Output::Text)
            .await
            .unwrap();
        let bodies: Vec<Value> = server.seen().iter().map(server::Seen::json).collect();
        let (first, last) = builds.split_at(BATCH);
        assert_eq!(
            bodies,
            [first, last].map(|batch| json!({"builds": batch, "release": false, "poller": "p1"}))
        );
    }

    #[test]
    fn answers_are_summed_up() {
        let mut sums = json!({"imported": [], "known": [], "released": []});
        add(&mut sums, &json!({"imported": [1, 2], "known": [3]}));
        add(&mut sums, &json!({"imported": [4], "released": [1]}));
        assert_eq!(
            sums,
            json!({"imported": [1, 2, 4], "known": [3], "released": [1]})
        );
        assert_eq!(
            summary(&sums),
            "3 builds imported, 1 were here, 1 released\n"
        );
    }

    #[test]
    fn a_file_that_has_no_builds_is_wrong_usage_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("builds.json");
        for (text, told) in [
            (None, "cannot read "),
            (Some("builds"), " is not JSON: "),
            (Some("[]"), "expected an object with the list `builds`"),
            (
                Some("{\"builds\": []}"),
                "expected an object with the list `builds`",
            ),
        ] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = read(&path).unwrap_err();
            let shown = format!("{error:#}");
            assert!(shown.contains(told), "{shown}");
            assert!(shown.contains("builds.json"), "{shown}");
            assert_eq!(code_of_error(&error), 2);
        }
    }
}
