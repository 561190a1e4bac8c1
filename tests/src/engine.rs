//! What the container engine still holds of us.

use std::process::Command;

use crate::Settings;

/// Containers that carry this label, those that have ended only with `--all`; `label` is `name` or `name=value`.
fn labelled(label: &str, all: &[&str]) -> Vec<String> {
    let engine = Settings::from_env().engine;
    let filter = format!("label={label}");
    let list = ["--host", &engine, "ps", "--quiet", "--filter", &filter];
    let output = Command::new("docker")
        .args([&list, all].concat())
        .output()
        .expect("the docker command is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Sandboxes of a builder, those that have ended included.
pub fn sandboxes_of(builder_id: &str) -> Vec<String> {
    labelled(&format!("millrace.builder={builder_id}"), &["--all"])
}

/// Sandboxes of a builder in which something still runs.
pub fn running_sandboxes_of(builder_id: &str) -> Vec<String> {
    labelled(&format!("millrace.builder={builder_id}"), &[])
}

/// Sandboxes of several builders.
pub fn leftovers(builder_ids: &[String]) -> Vec<String> {
    builder_ids.iter().flat_map(|id| sandboxes_of(id)).collect()
}
