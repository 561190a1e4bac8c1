//! `millrace show`, `list` and `cancel`.

use serde_json::json;

use crate::args::builds::List;
use crate::client::{Answer, build_path, with_query};
use crate::config::Config;
use crate::exit::Ending;
use crate::model::{Build, Page};
use crate::output::Output;
use crate::render;

/// Shows a build with its tasks, attempts and outcomes.
pub async fn show(config: &Config, build: i64, output: Output) -> anyhow::Result<Ending> {
    let answer: Answer<Build> = config.client.get(&build_path(build)).await?;
    output.print(&answer.json, || render::builds::details(&answer.object));
    Ok(Ending::Done)
}

/// Lists builds, newest first.
pub async fn list(config: &Config, command: List, output: Output) -> anyhow::Result<Ending> {
    let path = with_query(
        "/api/v1/builds",
        &[
            ("limit", Some(command.limit.to_string())),
            ("state", command.state.map(|state| state.to_string())),
            ("before", command.before.map(|build| build.to_string())),
            ("project", config.project.clone()),
        ],
    );
    let answer: Answer<Page<Build>> = config.client.get(&path).await?;
    output.print(&answer.json, || render::builds::list(&answer.object.items));
    Ok(Ending::Done)
}

/// Cancels a build; what builders have of it ends a little later.
pub async fn cancel(config: &Config, build: i64, output: Output) -> anyhow::Result<Ending> {
    let path = format!("{}/cancel", build_path(build));
    let answer: Answer<Build> = config.client.post(&path, &json!({})).await?;
    output.print(&answer.json, || {
        format!("build {build} is {}\n", cancel_state(&answer.object))
    });
    Ok(Ending::Done)
}

fn cancel_state(build: &Build) -> String {
    if build.state.is_terminal() {
        build.state.to_string()
    } else {
        "being cancelled".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{build, build_json};

    #[test]
    fn a_build_that_builders_still_have_is_being_cancelled() {
        for (state, told) in [
            ("running", "being cancelled"),
            ("cancelled", "cancelled"),
            ("succeeded", "succeeded"),
        ] {
            let build = build(&build_json(state, &[("a-1-x", state)]));
            assert_eq!(cancel_state(&build), told);
        }
    }
}
