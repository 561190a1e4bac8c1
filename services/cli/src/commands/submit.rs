//! `millrace submit` and `resubmit`: files are uploaded, URLs are passed on, then the build is created.

use std::path::Path;

use serde_json::{Value, json};

use crate::args::builds::{Resubmit, Submit, Waiting};
use crate::client::{Answer, Client, build_path};
use crate::config::Config;
use crate::error::UsageError;
use crate::exit::Ending;
use crate::model::Build;
use crate::output::Output;
use crate::{follow, render, wait};

/// Uploads the sources that are files, creates the build, and waits for its end where that is asked for.
pub async fn run(config: &Config, command: Submit, output: Output) -> anyhow::Result<Ending> {
    for source in command.sources.iter().filter(|s| !is_url(s)) {
        if !Path::new(source).is_file() {
            return Err(
                UsageError(format!("{source} is neither an http(s) URL nor a file")).into(),
            );
        }
    }
    let mut sources = Vec::with_capacity(command.sources.len());
    for source in &command.sources {
        sources.push(entry(&config.client, source).await?);
    }
    let body = body(&command, &sources, config.project.as_deref());
    let answer = config.client.post("/api/v1/builds", &body).await?;
    finish(config, answer, command.waiting, output).await
}

fn body(command: &Submit, sources: &[Value], project: Option<&str>) -> Value {
    let mut body = json!({
        "sources": sources,
        "chroots": command.chroots,
        "repositories": command.repositories,
        "priority": command.priority,
    });
    command.limits.add_to(&mut body);
    if let Some(project) = project {
        body["project"] = Value::from(project);
    }
    body
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// A source as the request names it: a URL, or the digest of a file that is uploaded now.
async fn entry(client: &Client, source: &str) -> anyhow::Result<Value> {
    if is_url(source) {
        return Ok(Value::from(source));
    }
    let stored = client.upload(Path::new(source)).await?;
    Ok(json!({ "sha256": stored["sha256"], "name": stored["name"] }))
}

/// Creates a build of another one's sources, and waits for its end where that is asked for.
pub async fn resubmit(
    config: &Config,
    command: Resubmit,
    output: Output,
) -> anyhow::Result<Ending> {
    let path = format!("{}/resubmit", build_path(command.build));
    let answer = config.client.post(&path, &resubmit_body(&command)).await?;
    finish(config, answer, command.waiting, output).await
}

fn resubmit_body(command: &Resubmit) -> Value {
    let mut body = json!({});
    command.limits.add_to(&mut body);
    if command.with_suggested_limits {
        // Left out otherwise: a server of the first release does not know the field.
        body["with_suggested_limits"] = true.into();
    }
    body
}

/// Prints the number of the new build, and waits for its end where that is asked for.
async fn finish(
    config: &Config,
    answer: Answer<Build>,
    waiting: Waiting,
    output: Output,
) -> anyhow::Result<Ending> {
    if !waiting.wait && !waiting.follow {
        output.print(&answer.json, || {
            format!("build {} submitted\n", answer.object.id)
        });
        return Ok(Ending::Done);
    }
    eprintln!("build {} submitted", answer.object.id);
    let ended = if waiting.follow && !output.is_json() {
        follow::build(&config.client, &answer.object).await?
    } else {
        wait::until_end(&config.client, answer.object.id).await?
    };
    if output.is_json() {
        println!("{}", ended.json);
    } else {
        eprint!("{}", render::builds::summary(&ended.object));
    }
    Ok(Ending::of_build(&ended.object))
}
