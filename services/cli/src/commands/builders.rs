//! `millrace builder list`, `drain` and `undrain`.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::config::Config;
use crate::error::UsageError;
use crate::exit::Ending;
use crate::output::Output;
use crate::render;

const PATH: &str = "/api/v1/builders";

/// Lists the builders.
pub async fn list(config: &Config, output: Output) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = config.client.get(PATH).await?;
    output.print(&answer.json, || render::builders::list(&answer.json));
    Ok(Ending::Done)
}

/// Gives a builder no more work.
pub async fn drain(config: &Config, builder: &str, output: Output) -> anyhow::Result<Ending> {
    post_action(config, builder, "drain", output).await
}

/// Gives a drained builder work again.
pub async fn undrain(config: &Config, builder: &str, output: Output) -> anyhow::Result<Ending> {
    post_action(config, builder, "undrain", output).await
}

async fn post_action(
    config: &Config,
    builder: &str,
    action: &str,
    output: Output,
) -> anyhow::Result<Ending> {
    let list: Answer<Value> = config.client.get(PATH).await?;
    let id = find_id(&list.json, builder)?;
    let path = format!("{PATH}/{id}/{action}");
    let answer: Answer<Value> = config.client.post(&path, &json!({})).await?;
    output.print(&answer.json, || render::builders::one(&answer.json));
    Ok(Ending::Done)
}

/// The id of the builder with this id, or else of the only one with this name.
fn find_id<'a>(list: &'a Value, id_or_name: &str) -> Result<&'a str, UsageError> {
    let builders = || list["items"].as_array().into_iter().flatten();
    let ids_where = |key: &str| -> Vec<&'a str> {
        builders()
            .filter(|builder| builder[key] == *id_or_name)
            .filter_map(|builder| builder["id"].as_str())
            .collect()
    };
    let named = ids_where("name");
    match (ids_where("id").as_slice(), named.as_slice()) {
        ([id], _) | (_, [id]) => Ok(id),
        (_, []) => Err(UsageError(format!(
            "there is no builder {id_or_name:?}; `millrace builder list` shows all"
        ))),
        (_, ids) => Err(UsageError(format!(
            "{} builders are called {id_or_name:?}; name one by its id: {}",
            ids.len(),
            ids.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_is_found_by_its_id_or_a_name_that_it_has_alone() {
        let list = json!({"items": [
            {"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "b"},
        ]});
        assert_eq!(find_id(&list, "a").unwrap(), "1");
        assert_eq!(find_id(&list, "3").unwrap(), "3");
        let error = find_id(&list, "b").unwrap_err().to_string();
        assert!(error.ends_with("by its id: 2, 3"), "{error}");
        assert!(find_id(&list, "c").is_err());
    }
}
