//! `millrace submit`: files are uploaded, URLs are passed on, then the build is asked for.

use std::path::Path;

use serde_json::{Value, json};

use crate::args::{Submit, Waiting};
use crate::client::{self, Answer};
use crate::commands::print;
use crate::config::Config;
use crate::exit::{Ending, Usage};
use crate::model::Build;
use crate::wait;

/// Uploads what is a file, submits, and waits where asked.
pub async fn run(config: &Config, command: Submit, json: bool) -> anyhow::Result<Ending> {
    for source in command.sources.iter().filter(|s| !is_url(s)) {
        if !Path::new(source).is_file() {
            return Err(Usage(format!("{source} is neither an http(s) URL nor a file")).into());
        }
    }
    let mut sources = Vec::with_capacity(command.sources.len());
    for source in &command.sources {
        sources.push(entry(config, source).await?);
    }
    let mut body = json!({
        "sources": sources,
        "chroots": command.chroots,
        "repositories": command.repositories,
        "priority": command.priority,
    });
    command.limits.add_to(&mut body);
    if let Some(project) = &config.project {
        body["project"] = Value::from(project.as_str());
    }
    let answer = client::post(&config.api, "/api/v1/builds", &body).await?;
    finish(config, answer, command.waiting, json).await
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

async fn entry(config: &Config, source: &str) -> anyhow::Result<Value> {
    if is_url(source) {
        return Ok(Value::from(source));
    }
    let stored = client::upload(&config.api, Path::new(source)).await?;
    Ok(json!({ "sha256": stored["sha256"], "name": stored["name"] }))
}

/// Tells of the new build and waits for its end where asked.
pub async fn finish(
    config: &Config,
    answer: Answer<Build>,
    waiting: Waiting,
    json: bool,
) -> anyhow::Result<Ending> {
    if !waiting.wait && !waiting.follow {
        print(json, &answer.json, || {
            format!("build {} submitted\n", answer.object.id)
        });
        return Ok(Ending::Done);
    }
    eprintln!("build {} submitted", answer.object.id);
    let ended = if waiting.follow && !json {
        wait::follow(config, &answer.object).await?
    } else {
        wait::until_end(config, answer.object.id).await?
    };
    if json {
        println!("{}", ended.json);
    } else {
        eprint!("{}", crate::render::ending(&ended.object));
    }
    Ok(Ending::of_build(&ended.object))
}
