//! Server, token and project from flags, environment or `~/.config/millrace.toml`.

use std::path::PathBuf;

use anyhow::Context;
use millrace_chassis::ApiClient;
use millrace_domain::Name;
use secrecy::SecretString;
use serde::Deserialize;

use crate::args::Connection;
use crate::exit::Usage;

const DEFAULT_URL: &str = "http://localhost:8080";

/// The file's keys; all are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    token: Option<SecretString>,
    project: Option<String>,
}

/// What a command needs to reach the server.
pub struct Config {
    pub api: ApiClient,
    /// `OWNER/NAME`; the server's default project when absent.
    pub project: Option<String>,
}

impl Config {
    pub fn load(connection: Connection) -> anyhow::Result<Self> {
        let file = read_file()?;
        let url = non_empty(connection.url)
            .or(file.url)
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        let token = non_empty(connection.token)
            .map(SecretString::from)
            .or(file.token);
        let project = non_empty(connection.project).or(file.project);
        if let Some(project) = &project {
            check_project(project)?;
        }
        Ok(Self {
            api: ApiClient::new(&url, token)?,
            project,
        })
    }
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.is_empty())
}

fn check_project(project: &str) -> Result<(), Usage> {
    let is_pair = project
        .split_once('/')
        .is_some_and(|(owner, name)| owner.parse::<Name>().is_ok() && name.parse::<Name>().is_ok());
    if is_pair {
        Ok(())
    } else {
        Err(Usage(format!(
            "--project is '{project}'; expected OWNER/NAME"
        )))
    }
}

fn path() -> Option<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")))?;
    Some(home.join("millrace.toml"))
}

fn read_file() -> anyhow::Result<File> {
    let Some(path) = path() else {
        return Ok(File::default());
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|e| Usage(format!("{}: {e}", path.display())).into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Parser errors quote the line they stumble over; that line may hold the token.
fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|e| e.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_told_without_its_token() {
        let error = parse("token = \"s3cret\nurl = 1").unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(parse("url = \"http://x\"\ntoken = \"s\"").is_ok());
        assert!(parse("tokn = \"x\"").is_err());
    }

    #[test]
    fn a_project_is_owner_and_name() {
        assert!(check_project("main/main").is_ok());
        for bad in ["main", "a/b/c", "/x", "a b/c"] {
            assert!(check_project(bad).is_err(), "{bad}");
        }
    }
}
