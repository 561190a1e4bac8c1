//! Server, token and project: from flags, then from the environment, then from `~/.config/millrace.toml`. (clap reads
//! the environment, so that here both are the command line.)

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use millrace_chassis::ApiClient;
use millrace_domain::Name;
use secrecy::SecretString;
use serde::Deserialize;

use crate::args::Connection;
use crate::client::Client;
use crate::error::UsageError;
use crate::retry::Timing;

const DEFAULT_URL: &str = "http://localhost:8080";

/// The configuration file; all keys are optional, and an unknown one is an error, as it is most often a misspelt one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    token: Option<SecretString>,
    project: Option<String>,
}

/// The values that count.
#[derive(Debug)]
struct Settings {
    url: String,
    token: Option<SecretString>,
    project: Option<String>,
}

/// The server and the project that a command works with.
#[derive(Debug)]
pub struct Config {
    pub client: Client,
    /// `OWNER/NAME`; the server's default project when absent.
    pub project: Option<String>,
}

impl Config {
    /// Reads the file and lets the command line win over it.
    pub fn load(connection: Connection) -> anyhow::Result<Self> {
        let settings = merge(connection, read_file(path_from_environment())?)?;
        let api = ApiClient::new(&settings.url, settings.token)?;
        Ok(Self {
            client: Client::new(api, Timing::default()),
            project: settings.project,
        })
    }
}

fn merge(connection: Connection, file: File) -> Result<Settings, UsageError> {
    let project = non_empty(connection.project).or(file.project);
    if let Some(project) = &project {
        check_project(project)?;
    }
    Ok(Settings {
        url: non_empty(connection.url)
            .or(file.url)
            .unwrap_or_else(|| DEFAULT_URL.to_owned()),
        token: non_empty(connection.token)
            .map(SecretString::from)
            .or(file.token),
        project,
    })
}

/// An empty variable counts as one that is not set.
fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.is_empty())
}

fn check_project(project: &str) -> Result<(), UsageError> {
    let is_pair = project
        .split_once('/')
        .is_some_and(|(owner, name)| owner.parse::<Name>().is_ok() && name.parse::<Name>().is_ok());
    if is_pair {
        Ok(())
    } else {
        Err(UsageError(format!(
            "--project is '{project}'; expected OWNER/NAME"
        )))
    }
}

fn path_from_environment() -> Option<PathBuf> {
    path(
        std::env::var_os("XDG_CONFIG_HOME"),
        std::env::var_os("HOME"),
    )
}

fn path(config_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let folder = config_home
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| home.map(|h| PathBuf::from(h).join(".config")))?;
    Some(folder.join("millrace.toml"))
}

/// The file's content; empty where there is no file.
fn read_file(path: Option<PathBuf>) -> anyhow::Result<File> {
    let Some(path) = path else {
        return Ok(File::default());
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|e| UsageError(format!("{}: {e}", path.display())).into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The parser's message without the line that it quotes, since that line may hold the token.
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
