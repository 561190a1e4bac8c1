//! Builders: the list, and those that are to take no more work.

use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::commands::print;
use crate::config::Config;
use crate::exit::{Ending, Usage};
use crate::render;

/// Lists them.
pub async fn list(config: &Config, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, "/api/v1/builders").await?;
    print(json, &answer.json, || render::builders(&answer.json));
    Ok(Ending::Done)
}

/// Drains or undrains the one that is meant.
pub async fn turn(config: &Config, asked: &str, verb: &str, json: bool) -> anyhow::Result<Ending> {
    let list: Answer<Value> = client::get(&config.api, "/api/v1/builders").await?;
    let id = meant(&list.json, asked)?;
    let path = format!("/api/v1/builders/{id}/{verb}");
    let answer: Answer<Value> = client::post(&config.api, &path, &json!({})).await?;
    print(json, &answer.json, || render::builder(&answer.json));
    Ok(Ending::Done)
}

/// The id of the builder that has this id or, alone, this name.
fn meant<'a>(list: &'a Value, asked: &str) -> Result<&'a str, Usage> {
    let builders = || list["items"].as_array().into_iter().flatten();
    let ids_with = |key: &str| -> Vec<&'a str> {
        builders()
            .filter(|builder| builder[key] == *asked)
            .filter_map(|builder| builder["id"].as_str())
            .collect()
    };
    let named = ids_with("name");
    match (ids_with("id").as_slice(), named.as_slice()) {
        ([id], _) | (_, [id]) => Ok(id),
        (_, []) => Err(Usage(format!(
            "there is no builder {asked:?}; `millrace builder list` shows all"
        ))),
        (_, ids) => Err(Usage(format!(
            "{} builders are called {asked:?}; name one by its id: {}",
            ids.len(),
            ids.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_is_meant_by_its_id_or_a_name_that_it_has_alone() {
        let list = json!({"items": [
            {"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "b"},
        ]});
        assert_eq!(meant(&list, "a").unwrap(), "1");
        assert_eq!(meant(&list, "3").unwrap(), "3");
        let error = meant(&list, "b").unwrap_err().to_string();
        assert!(error.ends_with("by its id: 2, 3"), "{error}");
        assert!(meant(&list, "c").is_err());
    }
}
