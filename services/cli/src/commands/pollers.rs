//! `millrace poller …`: the pollers of 2012 that the server knows, and a simulated one to try a site with.

use millrace_chassis::path_segment;
use serde_json::{Value, json};

use crate::args::legacy::{AddPoller, PollerCommand};
use crate::client::Answer;
use crate::config::Config;
use crate::exit::Ending;
use crate::output::Output;
use crate::render;
use crate::render::fields;
use crate::render::text::sanitize;
use crate::simulate;

const PATH: &str = "/api/v1/pollers";

/// Runs a command about pollers.
pub async fn run(
    config: &Config,
    command: PollerCommand,
    output: Output,
) -> anyhow::Result<Ending> {
    match command {
        PollerCommand::Add(new) => add(config, new, output).await?,
        PollerCommand::List => list(config, output).await?,
        PollerCommand::Show { name } => show(config, &name, output).await?,
        PollerCommand::Remove { name } => remove(config, &name, output).await?,
        PollerCommand::Rotate { name } => rotate(config, &name, output).await?,
        PollerCommand::Lens { name } => lens(config, &name, output).await?,
        PollerCommand::Simulate(options) => return simulate::run(options).await,
    }
    Ok(Ending::Done)
}

fn path(name: &str) -> String {
    format!("{PATH}/{}", path_segment(name))
}

async fn add(config: &Config, new: AddPoller, output: Output) -> anyhow::Result<()> {
    let body = json!({
        "name": new.name, "mode": new.mode, "projects": new.projects, "chroots": new.chroots,
        "share": new.share, "fence": new.fence,
    });
    // Sent once: the answer has the secret, and the server could not show it again to a repeat.
    let answer = config.client.post_once(PATH, &body).await?;
    output.print(&answer, || render::pollers::access(&answer));
    Ok(())
}

async fn rotate(config: &Config, name: &str, output: Output) -> anyhow::Result<()> {
    let path = format!("{}/rotate", path(name));
    let answer = config.client.post_once(&path, &json!({})).await?;
    output.print(&answer, || render::pollers::access(&answer));
    Ok(())
}

async fn list(config: &Config, output: Output) -> anyhow::Result<()> {
    let answer: Answer<Value> = config.client.get(PATH).await?;
    output.print(&answer.json, || render::pollers::list(&answer.json));
    Ok(())
}

async fn show(config: &Config, name: &str, output: Output) -> anyhow::Result<()> {
    let answer: Answer<Value> = config.client.get(&path(name)).await?;
    output.print(&answer.json, || fields::lines(&answer.json));
    Ok(())
}

async fn remove(config: &Config, name: &str, output: Output) -> anyhow::Result<()> {
    let answer = config.client.delete_once(&path(name)).await?;
    output.print(&answer, || {
        format!(
            "poller {} is removed; what it had goes to the queue\n",
            sanitize(answer["name"].as_str().unwrap_or("-"))
        )
    });
    Ok(())
}

async fn lens(config: &Config, name: &str, output: Output) -> anyhow::Result<()> {
    let path = format!("{}/lens", path(name));
    let answer: Answer<Value> = config.client.get(&path).await?;
    output.print(&answer.json, || render::pollers::lens(&answer.json));
    Ok(())
}
