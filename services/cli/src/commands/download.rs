//! `millrace download`: the result files of each task's latest attempt, in one folder per chroot.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::StreamExt;
use millrace_domain::FileName;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::args::builds::Download;
use crate::client::{Answer, Client, build_path};
use crate::config::Config;
use crate::error::ServiceError;
use crate::exit::Ending;
use crate::model::{Build, File, Task};
use crate::output::Output;

/// Downloads the files, and prints the path of each as soon as it is whole.
pub async fn run(config: &Config, command: Download, output: Output) -> anyhow::Result<Ending> {
    let answer: Answer<Build> = config.client.get(&build_path(command.build)).await?;
    let mut written = Vec::new();
    let chosen = |task: &&Task| command.chroot.as_ref().is_none_or(|c| *c == task.chroot);
    for task in answer.object.tasks.iter().filter(chosen) {
        for file in result_files(task) {
            let path = fetch(&config.client, file, &command.dest, &task.chroot).await?;
            if !output.is_json() {
                println!("{}", path.display());
            }
            written.push(entry(file, &path));
        }
    }
    if output.is_json() {
        println!("{}", json!({ "items": written }));
    } else if written.is_empty() {
        eprintln!("build {} has no result files", command.build);
    }
    Ok(Ending::Done)
}

fn result_files(task: &Task) -> impl Iterator<Item = &File> {
    let packages = task.latest_attempt().into_iter().flat_map(|a| &a.packages);
    packages.flat_map(|package| &package.files)
}

fn entry(file: &File, path: &Path) -> Value {
    json!({ "path": path, "size": file.size, "sha256": file.sha256 })
}

/// Downloads one file into the chroot's folder below `dest` and returns its path.
async fn fetch(client: &Client, file: &File, dest: &Path, chroot: &str) -> anyhow::Result<PathBuf> {
    let folder = dest.join(path_part(chroot)?);
    let path = folder.join(path_part(&file.name)?);
    tokio::fs::create_dir_all(&folder)
        .await
        .with_context(|| format!("cannot make {}", folder.display()))?;
    // Written beside its place and renamed, so that a file with the final name is always whole.
    let part = folder.join(format!(".{}.part", file.name));
    let size = receive(client, local_part(&file.url), &part).await?;
    if size != file.size {
        tokio::fs::remove_file(&part).await.ok();
        return Err(ServiceError(format!(
            "{} has {size} bytes instead of {}; run the command again",
            file.name, file.size
        ))
        .into());
    }
    tokio::fs::rename(&part, &path)
        .await
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A name from the server as one part of a path; a name that could leave its folder is refused.
fn path_part(name: &str) -> Result<&str, ServiceError> {
    match name.parse::<FileName>() {
        Ok(_) => Ok(name),
        Err(error) => Err(ServiceError(format!(
            "the server named a file {name:?}: {error}"
        ))),
    }
}

/// The path of a URL from its `/api/` on. The server names itself in URLs by its public address, which may not be
/// reachable from here, while the configured address is.
fn local_part(url: &str) -> &str {
    url.find("/api/").map_or(url, |at| &url[at..])
}

/// Writes the answer's bytes to `target` and returns how many there were.
async fn receive(client: &Client, path: &str, target: &Path) -> anyhow::Result<u64> {
    let response = client.open(path).await?;
    let mut out = tokio::fs::File::create(target)
        .await
        .with_context(|| format!("cannot write {}", target.display()))?;
    let mut size = 0_u64;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.context("the download broke off; run the command again")?;
        size += chunk.len() as u64;
        out.write_all(&chunk)
            .await
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    out.flush().await?;
    Ok(size)
}
