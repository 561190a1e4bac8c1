//! `millrace project show` and `project set`.

use millrace_chassis::path_segment;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::config::Config;
use crate::error::UsageError;
use crate::exit::Ending;
use crate::output::Output;
use crate::render::fields;

/// Shows a project's settings.
pub async fn show(config: &Config, name: &str, output: Output) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = config.client.get(&path(name)?).await?;
    output.print(&answer.json, || fields::lines(&answer.json));
    Ok(Ending::Done)
}

/// Changes those settings that are given, and shows all.
pub async fn set(
    config: &Config,
    name: &str,
    auto_raise: Option<bool>,
    output: Output,
) -> anyhow::Result<Ending> {
    let change = json!({ "auto_raise": auto_raise });
    let answer: Answer<Value> = config.client.patch(&path(name)?, &change).await?;
    output.print(&answer.json, || fields::lines(&answer.json));
    Ok(Ending::Done)
}

fn path(project: &str) -> Result<String, UsageError> {
    let (owner, name) = project.split_once('/').ok_or_else(|| {
        UsageError(format!(
            "{project:?} is not a project; name it as OWNER/NAME"
        ))
    })?;
    Ok(format!(
        "/api/v1/projects/{}/{}",
        path_segment(owner),
        path_segment(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_with_its_owner() {
        assert_eq!(path("main/x").unwrap(), "/api/v1/projects/main/x");
        assert!(path("main").is_err());
    }
}
