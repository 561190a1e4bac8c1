//! Chroots: where one can build, and how their images are.

use serde_json::{Value, json};

use crate::args::{AddChroot, ChrootCommand};
use crate::client::{self, Answer};
use crate::commands::print;
use crate::config::Config;
use crate::exit::Ending;
use crate::render;
use millrace_chassis::path_segment;

const PATH: &str = "/api/v1/chroots";

/// Runs a command about chroots.
pub async fn run(config: &Config, command: ChrootCommand, json: bool) -> anyhow::Result<Ending> {
    match command {
        ChrootCommand::List => {
            let answer: Answer<Value> = client::get(&config.api, PATH).await?;
            print(json, &answer.json, || render::chroots(&answer.json));
        }
        ChrootCommand::Add(new) => change(config, PATH, &body(new), json).await?,
        ChrootCommand::Refresh { name } => turn(config, &name, "refresh", json).await?,
        ChrootCommand::Disable { name } => turn(config, &name, "disable", json).await?,
        ChrootCommand::Enable { name } => turn(config, &name, "enable", json).await?,
    }
    Ok(Ending::Done)
}

/// Only what is given: the server has defaults.
fn body(new: AddChroot) -> Value {
    let given = [
        ("name", Some(new.name)),
        ("base", new.base),
        ("image", new.image),
        ("mock_root", new.mock_root),
    ];
    let fields = given
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?))));
    Value::Object(fields.collect())
}

async fn turn(config: &Config, name: &str, verb: &str, json: bool) -> anyhow::Result<()> {
    let path = format!("{PATH}/{}/{verb}", path_segment(name));
    change(config, &path, &json!({}), json).await
}

async fn change(config: &Config, path: &str, body: &Value, json: bool) -> anyhow::Result<()> {
    let answer: Answer<Value> = client::post(&config.api, path, body).await?;
    print(json, &answer.json, || render::chroot(&answer.json));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_not_sent() {
        let new = AddChroot {
            name: "a-1-x".to_owned(),
            base: Some("mock:1".to_owned()),
            image: None,
            mock_root: None,
        };
        assert_eq!(body(new), json!({"name": "a-1-x", "base": "mock:1"}));
    }
}
