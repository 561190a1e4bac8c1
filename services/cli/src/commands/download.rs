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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::code_of_error;
    use crate::testing::server::{self, Server};
    use crate::testing::{attempt_json, build_json, config};

    const CONTENT: &str = "the package";

    /// Build 7 with one file in each of two chroots; the first has this name, size and chroot.
    fn build(name: &str, size: usize, chroot: &str) -> Value {
        let file = |name: &str, size: usize| {
            json!({"name": name, "size": size, "sha256": "00ff",
            "url": format!("http://public.example/base/api/v1/files/{size}")})
        };
        let attempt = |file: Value| {
            let mut attempt = attempt_json(1, "finished", Some("b1"));
            let outcome = json!({"kind": "succeeded", "message": "built"});
            attempt["packages"] =
                json!([{"source": "a.src.rpm", "outcome": outcome, "files": [file]}]);
            attempt
        };
        let mut build = build_json(
            "succeeded",
            &[(chroot, "succeeded"), ("b-1-x", "succeeded")],
        );
        build["tasks"][0]["attempts"] = json!([attempt(file(name, size))]);
        build["tasks"][1]["attempts"] = json!([attempt(file("b.rpm", CONTENT.len()))]);
        build
    }

    /// Downloads the build into a folder of its own.
    async fn download(
        build: Value,
        chroot: Option<&str>,
    ) -> (anyhow::Result<Ending>, tempfile::TempDir, Vec<String>) {
        let server = Server::start(move |seen| match seen.line.as_str() {
            "GET /api/v1/builds/7" => server::json(&build),
            _ => server::bytes(CONTENT),
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let command = Download {
            build: 7,
            dest: folder.path().join("out"),
            chroot: chroot.map(str::to_owned),
        };
        let result = run(&config(&server), command, Output::Text).await;
        (result, folder, server.lines())
    }

    /// All files below a folder, hidden ones too.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .flat_map(|path| {
                if path.is_dir() {
                    files(&path)
                } else {
                    vec![path]
                }
            })
            .collect();
        found.sort();
        found
    }

    #[tokio::test]
    async fn each_file_is_written_whole_into_the_folder_of_its_chroot() {
        let (result, folder, asked) = download(build("a.rpm", CONTENT.len(), "a-1-x"), None).await;
        assert_eq!(result.unwrap(), Ending::Done);
        let expected = ["out/a-1-x/a.rpm", "out/b-1-x/b.rpm"].map(|path| folder.path().join(path));
        assert_eq!(files(folder.path()), expected);
        assert_eq!(std::fs::read(&expected[0]).unwrap(), CONTENT.as_bytes());
        // Files come from the configured server, whatever its public address is.
        assert_eq!(asked[1], "GET /api/v1/files/11");
    }

    #[tokio::test]
    async fn only_the_chroot_that_is_asked_for_is_downloaded() {
        let all = build("a.rpm", CONTENT.len(), "a-1-x");
        let (_, folder, _) = download(all.clone(), Some("b-1-x")).await;
        let expected = [folder.path().join("out/b-1-x/b.rpm")];
        assert_eq!(files(folder.path()), expected);
        let (result, folder, _) = download(all, Some("c-1-x")).await;
        assert_eq!(result.unwrap(), Ending::Done);
        assert!(files(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_name_that_could_leave_its_folder_is_refused_before_anything_is_written() {
        for bad in [
            "../a.rpm",
            "/etc/passwd",
            "..",
            ".",
            "",
            "a/b.rpm",
            ".hidden",
            "a\nb",
        ] {
            for (name, chroot) in [(bad, "a-1-x"), ("a.rpm", bad)] {
                let (result, folder, asked) =
                    download(build(name, CONTENT.len(), chroot), None).await;
                let error = result.unwrap_err();
                let told = format!("the server named a file {bad:?}: ");
                assert!(error.to_string().starts_with(&told), "{error}");
                assert_eq!(code_of_error(&error), 3);
                assert!(files(folder.path()).is_empty());
                assert_eq!(asked, ["GET /api/v1/builds/7"]);
            }
        }
    }

    #[tokio::test]
    async fn a_file_of_another_size_is_not_left_behind() {
        let (result, folder, _) = download(build("a.rpm", 12, "a-1-x"), None).await;
        let error = result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.rpm has 11 bytes instead of 12; run the command again"
        );
        assert_eq!(code_of_error(&error), 3);
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn a_file_in_json_has_its_path_size_and_digest() {
        let file: File =
            serde_json::from_value(json!({"name": "a", "size": 1, "sha256": "00", "url": "x"}))
                .unwrap();
        assert_eq!(
            entry(&file, Path::new("out/a")),
            json!({"path": "out/a", "size": 1, "sha256": "00"})
        );
    }

    #[test]
    fn a_url_is_cut_to_what_the_configured_server_is_asked_for() {
        assert_eq!(
            local_part("https://h:1/base/api/v1/x?a=/api/"),
            "/api/v1/x?a=/api/"
        );
        assert_eq!(local_part("/api/v1/x"), "/api/v1/x");
    }
}
