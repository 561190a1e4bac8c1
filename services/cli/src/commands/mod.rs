//! One function per command: call, print, tell the ending.

mod builders;
mod chroots;
mod import;
mod pollers;
mod projects;
mod submit;

use anyhow::Context;
use futures_util::StreamExt;
use millrace_chassis::{Method, path_segment};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::args::{
    Args, BuilderCommand, Command, Download, List, Log, ParkedCommand, ProjectCommand, Resubmit,
};
use crate::client::{self, Answer};
use crate::config::Config;
use crate::exit::{Ending, Fault, Usage};
use crate::model::{Build, File, Page, Task};
use crate::{follow, render, wait};

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<Ending> {
    let config = Config::load(args.connection)?;
    let json = args.json;
    match args.command {
        Command::Submit(command) => submit::run(&config, command, json).await,
        Command::Show { build } => show(&config, build, json).await,
        Command::List(command) => list(&config, command, json).await,
        Command::Log(command) => log(&config, command, json).await,
        Command::Cancel { build } => cancel(&config, build, json).await,
        Command::Resubmit(command) => resubmit(&config, command, json).await,
        Command::Download(command) => download(&config, command, json).await,
        Command::Chroot { command } => chroots::run(&config, command, json).await,
        Command::Parked {
            command: ParkedCommand::List { limit, before },
        } => parked(&config, limit, before, json).await,
        Command::Builder {
            command: BuilderCommand::List,
        } => builders::list(&config, json).await,
        Command::Project {
            command: ProjectCommand::Show { name },
        } => projects::show(&config, &name, json).await,
        Command::Project {
            command: ProjectCommand::Set { name, auto_raise },
        } => projects::set(&config, &name, auto_raise, json).await,
        Command::Drain { builder } => builders::turn(&config, &builder, "drain", json).await,
        Command::Undrain { builder } => builders::turn(&config, &builder, "undrain", json).await,
        Command::Poller { command } => pollers::run(&config, command, json).await,
        Command::Import(command) => import::run(&config, command, json).await,
        Command::Status => status(&config, json).await,
    }
}

async fn show(config: &Config, build: i64, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Build> = client::get(&config.api, &wait::path(build)).await?;
    print(json, &answer.json, || render::build(&answer.object));
    Ok(Ending::Done)
}

/// A path with those parameters that have a value.
fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| {
            value
                .as_ref()
                .map(|v| format!("{name}={}", path_segment(v)))
        })
        .collect();
    format!("{path}?{}", given.join("&"))
}

async fn list(config: &Config, command: List, json: bool) -> anyhow::Result<Ending> {
    let path = query(
        "/api/v1/builds",
        &[
            ("limit", Some(command.limit.to_string())),
            ("state", command.state.map(|state| state.to_string())),
            ("before", command.before.map(|build| build.to_string())),
            ("project", config.project.clone()),
        ],
    );
    let answer: Answer<Page<Build>> = client::get(&config.api, &path).await?;
    print(json, &answer.json, || render::builds(&answer.object.items));
    Ok(Ending::Done)
}

async fn log(config: &Config, command: Log, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Build> = client::get(&config.api, &wait::path(command.build)).await?;
    if json && command.follow {
        return Err(
            Usage("--json and --follow do not go together: a log is text".to_owned()).into(),
        );
    }
    if command.follow && command.attempt.is_none() && command.chroot.is_none() {
        let build = wait::follow(config, &answer.object).await?.object;
        return Ok(Ending::of_build(&build));
    }
    let task = one_task(&answer.object, command.chroot.as_deref())?;
    if command.follow && command.attempt.is_none() {
        follow::task(&config.api, command.build, &task.chroot, false).await?;
        return Ok(Ending::Done);
    }
    let attempt = match command.attempt {
        Some(number) => task.attempts.iter().find(|a| a.number == number),
        None => task.latest_attempt(),
    };
    let Some(attempt) = attempt else {
        return Err(Usage(format!(
            "build {} has no such attempt in {} yet",
            command.build, task.chroot
        ))
        .into());
    };
    if json {
        let text = follow::whole(&config.api, &attempt.id).await?;
        println!(
            "{}",
            json!({ "attempt": attempt.id, "log": String::from_utf8_lossy(&text) })
        );
    } else {
        follow::print_attempt(&config.api, &attempt.id, command.follow).await?;
    }
    Ok(Ending::Done)
}

async fn cancel(config: &Config, build: i64, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Build> = client::post(
        &config.api,
        &format!("{}/cancel", wait::path(build)),
        &json!({}),
    )
    .await?;
    print(json, &answer.json, || {
        format!("build {build} is {}\n", cancel_state(&answer.object))
    });
    Ok(Ending::Done)
}

fn cancel_state(build: &Build) -> String {
    if build.state.is_terminal() {
        build.state.to_string()
    } else {
        "being cancelled".to_owned()
    }
}

async fn resubmit(config: &Config, command: Resubmit, json: bool) -> anyhow::Result<Ending> {
    let mut body = json!({});
    command.limits.add_to(&mut body);
    if command.with_suggested_limits {
        // Only where it is wanted: a server of the first release does not know the field.
        body["with_suggested_limits"] = true.into();
    }
    let answer = client::post(
        &config.api,
        &format!("{}/resubmit", wait::path(command.build)),
        &body,
    )
    .await?;
    submit::finish(config, answer, command.waiting, json).await
}

fn one_task<'a>(build: &'a Build, chroot: Option<&str>) -> Result<&'a Task, Usage> {
    build.task(chroot).ok_or_else(|| {
        let names: Vec<&str> = build.tasks.iter().map(|t| t.chroot.as_str()).collect();
        Usage(format!(
            "build {} is built in {}; name one of them with --chroot",
            build.id,
            names.join(", ")
        ))
    })
}

async fn download(config: &Config, command: Download, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Build> = client::get(&config.api, &wait::path(command.build)).await?;
    let mut written = Vec::new();
    for task in answer
        .object
        .tasks
        .iter()
        .filter(|t| command.chroot.as_ref().is_none_or(|c| *c == t.chroot))
    {
        let folder = command.dest.join(safe(&task.chroot)?);
        for package in task.latest_attempt().iter().flat_map(|a| &a.packages) {
            for file in &package.files {
                tokio::fs::create_dir_all(&folder)
                    .await
                    .with_context(|| format!("cannot make {}", folder.display()))?;
                let path = folder.join(safe(&file.name)?);
                fetch(config, file, &path).await?;
                if !json {
                    println!("{}", path.display());
                }
                written.push(json!({ "path": path, "size": file.size, "sha256": file.sha256 }));
            }
        }
    }
    if json {
        println!("{}", json!({ "items": written }));
    } else if written.is_empty() {
        eprintln!("build {} has no result files", command.build);
    }
    Ok(Ending::Done)
}

/// A server's word never becomes a path unchecked.
fn safe(name: &str) -> Result<&str, Fault> {
    match name.parse::<millrace_domain::FileName>() {
        Ok(_) => Ok(name),
        Err(error) => Err(Fault(format!("the server named a file {name:?}: {error}"))),
    }
}

/// Writes beside the target and renames, so that a file with the final name is always whole.
async fn fetch(config: &Config, file: &File, path: &std::path::Path) -> anyhow::Result<()> {
    let part = path.with_file_name(format!(".{}.part", file.name));
    let local = file
        .url
        .find("/api/")
        .map_or(file.url.as_str(), |at| &file.url[at..]);
    let response = config
        .api
        .send(config.api.request(Method::GET, local))
        .await?;
    let mut out = tokio::fs::File::create(&part)
        .await
        .with_context(|| format!("cannot write {}", part.display()))?;
    let mut size = 0_u64;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.context("the download broke off; run the command again")?;
        size += chunk.len() as u64;
        out.write_all(&chunk)
            .await
            .with_context(|| format!("cannot write {}", part.display()))?;
    }
    out.flush().await?;
    drop(out);
    if size != file.size {
        tokio::fs::remove_file(&part).await.ok();
        return Err(Fault(format!(
            "{} has {size} bytes instead of {}; run the command again",
            file.name, file.size
        ))
        .into());
    }
    tokio::fs::rename(&part, path)
        .await
        .with_context(|| format!("cannot write {}", path.display()))
}

async fn parked(
    config: &Config,
    limit: u32,
    before: Option<i64>,
    json: bool,
) -> anyhow::Result<Ending> {
    let path = query(
        "/api/v1/parked",
        &[
            ("limit", Some(limit.to_string())),
            ("before", before.map(|id| id.to_string())),
        ],
    );
    let answer: Answer<Value> = client::get(&config.api, &path).await?;
    print(json, &answer.json, || render::parked(&answer.json));
    Ok(Ending::Done)
}

async fn status(config: &Config, json: bool) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = client::get(&config.api, "/api/v1/status").await?;
    print(json, &answer.json, || render::status(&answer.json));
    Ok(Ending::Done)
}

/// Prints the server's JSON or our text.
pub fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{value}");
    } else {
        print!("{}", text());
    }
}
