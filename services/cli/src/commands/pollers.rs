//! Pollers of 2012: who they are, what they see, and one of our own to try a site with.

use millrace_chassis::{Method, path_segment};
use serde_json::{Value, json};

use crate::args::{AddPoller, PollerCommand};
use crate::client::{self, Answer};
use crate::commands::print;
use crate::config::Config;
use crate::exit::Ending;
use crate::render;
use crate::simulate;

/// Runs a command about pollers.
pub async fn run(config: &Config, command: PollerCommand, json: bool) -> anyhow::Result<Ending> {
    match command {
        PollerCommand::Add(new) => add(config, new, json).await,
        PollerCommand::List => list(config, json).await,
        PollerCommand::Show { name } => show(config, &name, json).await,
        PollerCommand::Remove { name } => remove(config, &name, json).await,
        PollerCommand::Rotate { name } => rotate(config, &name, json).await,
        PollerCommand::Lens { name } => lens(config, &name, json).await,
        PollerCommand::Simulate(options) => simulate::run(options).await,
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/pollers/{}", path_segment(name))
}

async fn add(config: &Config, new: AddPoller, json: bool) -> anyhow::Result<Ending> {
    let body = json!({
        "name": new.name, "mode": new.mode, "projects": new.projects, "chroots": new.chroots,
        "share": new.share, "fence": new.fence,
    });
    // Not repeated by itself: what a lost answer said of the secrets cannot be asked for again.
    let value: Value = config.api.post("/api/v1/pollers", &body).await?;
    print(json, &value, || render::access(&value));
    Ok(Ending::Done)
}

async fn rotate(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let path = format!("{}/rotate", path(name));
    let value: Value = config.api.post(&path, &json!({})).await?;
    print(json, &value, || render::access(&value));
    Ok(Ending::Done)
}

async fn list(config: &Config, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, "/api/v1/pollers").await?;
    print(json, &answer.json, || render::pollers(&answer.json));
    Ok(Ending::Done)
}

async fn show(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, &path(name)).await?;
    print(json, &answer.json, || render::status(&answer.json));
    Ok(Ending::Done)
}

async fn remove(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let request = config.api.request(Method::DELETE, &path(name));
    let value: Value = config.api.json(request).await?;
    print(json, &value, || {
        format!(
            "poller {} is removed; what it had goes to the queue\n",
            render::plain(value["name"].as_str().unwrap_or("-"))
        )
    });
    Ok(Ending::Done)
}

async fn lens(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, &format!("{}/lens", path(name))).await?;
    print(json, &answer.json, || render::lens(&answer.json));
    Ok(Ending::Done)
}
