//! Projects and what they have set.

use millrace_chassis::path_segment;
use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::commands::print;
use crate::config::Config;
use crate::exit::{Ending, Usage};
use crate::render;

/// Shows a project.
pub async fn show(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, &path(name)?).await?;
    print(json, &answer.json, || render::status(&answer.json));
    Ok(Ending::Done)
}

/// Changes what is given.
pub async fn set(
    config: &Config,
    name: &str,
    auto_raise: Option<bool>,
    json: bool,
) -> anyhow::Result<Ending> {
    let change = json!({ "auto_raise": auto_raise });
    let answer: Answer<Value> = client::patch(&config.api, &path(name)?, &change).await?;
    print(json, &answer.json, || render::status(&answer.json));
    Ok(Ending::Done)
}

fn path(project: &str) -> Result<String, Usage> {
    let (owner, name) = project
        .split_once('/')
        .ok_or_else(|| Usage(format!("{project:?} is no project; name it as OWNER/NAME")))?;
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
