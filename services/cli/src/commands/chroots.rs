//! `millrace chroot …`: which chroots there are, their images, and whether they accept builds.

use millrace_chassis::path_segment;
use serde_json::{Value, json};

use crate::args::admin::{AddChroot, ChrootCommand};
use crate::client::Answer;
use crate::config::Config;
use crate::exit::Ending;
use crate::output::Output;
use crate::render;

const PATH: &str = "/api/v1/chroots";

/// Runs a command about chroots.
pub async fn run(
    config: &Config,
    command: ChrootCommand,
    output: Output,
) -> anyhow::Result<Ending> {
    match command {
        ChrootCommand::List => {
            let answer: Answer<Value> = config.client.get(PATH).await?;
            output.print(&answer.json, || render::chroots::list(&answer.json));
        }
        ChrootCommand::Add(new) => post(config, PATH, &new_chroot(new), output).await?,
        ChrootCommand::Refresh { name } => post_action(config, &name, "refresh", output).await?,
        ChrootCommand::Disable { name } => post_action(config, &name, "disable", output).await?,
        ChrootCommand::Enable { name } => post_action(config, &name, "enable", output).await?,
    }
    Ok(Ending::Done)
}

/// The request's body; fields that are not given are left out, since the server has defaults for them.
fn new_chroot(new: AddChroot) -> Value {
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

async fn post_action(
    config: &Config,
    name: &str,
    action: &str,
    output: Output,
) -> anyhow::Result<()> {
    let path = format!("{PATH}/{}/{action}", path_segment(name));
    post(config, &path, &json!({}), output).await
}

async fn post(config: &Config, path: &str, body: &Value, output: Output) -> anyhow::Result<()> {
    let answer: Answer<Value> = config.client.post(path, body).await?;
    output.print(&answer.json, || render::chroots::one(&answer.json));
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
        assert_eq!(new_chroot(new), json!({"name": "a-1-x", "base": "mock:1"}));
    }
}
