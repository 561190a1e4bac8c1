//! Pollers of 2012: who they are, what they see, and one of our own to try a site with.

use millrace_chassis::{Method, path_segment};
use serde_json::{Value, json};

use crate::args::{AddPoller, PollerCommand};
use crate::client::{self, Answer};
use crate::command::print;
use crate::config::Config;
use crate::exit::Ending;
use crate::render::{plain, status};
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
    print(json, &value, || access_text(&value));
    Ok(Ending::Done)
}

async fn rotate(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let path = format!("{}/rotate", path(name));
    let value: Value = config.api.post(&path, &json!({})).await?;
    print(json, &value, || access_text(&value));
    Ok(Ending::Done)
}

async fn list(config: &Config, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, "/api/v1/pollers").await?;
    print(json, &answer.json, || list_text(&answer.json));
    Ok(Ending::Done)
}

async fn show(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, &path(name)).await?;
    print(json, &answer.json, || status(&answer.json));
    Ok(Ending::Done)
}

async fn remove(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let request = config.api.request(Method::DELETE, &path(name));
    let value: Value = config.api.json(request).await?;
    print(json, &value, || {
        format!(
            "poller {} is removed; what it had goes to the queue\n",
            word(&value["name"])
        )
    });
    Ok(Ending::Done)
}

async fn lens(config: &Config, name: &str, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, &format!("{}/lens", path(name))).await?;
    print(json, &answer.json, || lens_text(&answer.json));
    Ok(Ending::Done)
}

fn word(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}

fn access_text(access: &Value) -> String {
    format!(
        "poller {} ({})\nfrontend_url: {}\npassword:     {}\nBoth are shown this once.\n",
        word(&access["name"]),
        word(&access["mode"]),
        word(&access["url"]),
        word(&access["secret"])
    )
}

fn list_text(list: &Value) -> String {
    let line = |poller: &Value| {
        let polls = if poller["alive"] == true {
            "polls"
        } else {
            "silent"
        };
        format!(
            "{}  {}  {polls}, last list {}, last report {}\n",
            word(&poller["name"]),
            word(&poller["mode"]),
            word(&poller["fetched_at"]),
            word(&poller["reported_at"])
        )
    };
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(line)
        .collect()
}

fn lens_text(lens: &Value) -> String {
    let owned = |task: &Value| {
        format!(
            "has build {} in {}: {} since {} until {}\n",
            task["build_id"],
            word(&task["chroot"]),
            word(&task["state"]),
            word(&task["since"]),
            word(&task["until"])
        )
    };
    let owned: String = lens["owned"]
        .as_array()
        .into_iter()
        .flatten()
        .map(owned)
        .collect();
    format!(
        "{}last list: {}\nlast report: {}\n{owned}the answer now:\n{}",
        status(&lens["poller"]),
        lens["fetched"],
        plain(&lens["reported"].to_string()),
        plain(&word(&lens["answer"]))
    )
}
