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
    use secrecy::ExposeSecret;

    fn flags(url: &str, token: &str, project: &str) -> Connection {
        Connection {
            url: Some(url.to_owned()),
            token: Some(token.to_owned()),
            project: Some(project.to_owned()),
        }
    }

    fn file() -> File {
        parse("url = \"http://file\"\ntoken = \"file-token\"\nproject = \"file/project\"").unwrap()
    }

    fn token(settings: &Settings) -> Option<&str> {
        settings.token.as_ref().map(ExposeSecret::expose_secret)
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let settings = merge(flags("http://flag", "flag-token", "flag/project"), file()).unwrap();
        assert_eq!(settings.url, "http://flag");
        assert_eq!(token(&settings), Some("flag-token"));
        assert_eq!(settings.project.as_deref(), Some("flag/project"));
    }

    #[test]
    fn each_value_that_is_not_given_comes_from_the_file() {
        let only_url = Connection {
            url: Some("http://flag".to_owned()),
            ..Connection::default()
        };
        let settings = merge(only_url, file()).unwrap();
        assert_eq!(settings.url, "http://flag");
        assert_eq!(token(&settings), Some("file-token"));
        assert_eq!(settings.project.as_deref(), Some("file/project"));
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let settings = merge(flags("", "", ""), file()).unwrap();
        assert_eq!(settings.url, "http://file");
        assert_eq!(token(&settings), Some("file-token"));
        assert_eq!(settings.project.as_deref(), Some("file/project"));
    }

    #[test]
    fn without_anything_it_is_this_machine_and_no_token() {
        let settings = merge(Connection::default(), File::default()).unwrap();
        assert_eq!(settings.url, "http://localhost:8080");
        assert!(settings.token.is_none() && settings.project.is_none());
    }

    #[test]
    fn a_broken_file_is_told_without_its_token() {
        let error = parse("token = \"s3cret\nurl = 1").unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(parse("url = \"http://x\"\ntoken = \"s\"").is_ok());
        assert!(parse("tokn = \"x\"").is_err());
    }

    #[test]
    fn a_token_is_never_shown() {
        let settings = merge(flags("http://h", "s3cret", "a/b"), File::default()).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn a_project_is_owner_and_name() {
        assert!(check_project("main/main").is_ok());
        for bad in ["main", "a/b/c", "/x", "a b/c"] {
            assert!(check_project(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_project_in_the_file_is_wrong_usage() {
        let wrong = parse("project = \"main\"").unwrap();
        let error = merge(Connection::default(), wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--project is 'main'; expected OWNER/NAME"
        );
    }

    #[test]
    fn the_file_is_in_the_users_configuration_folder() {
        let os = |text: &str| Some(OsString::from(text));
        for (config_home, home, expected) in [
            (os("/c"), os("/h"), Some("/c/millrace.toml")),
            (os(""), os("/h"), Some("/h/.config/millrace.toml")),
            (None, os("/h"), Some("/h/.config/millrace.toml")),
            (None, None, None),
        ] {
            assert_eq!(path(config_home, home), expected.map(PathBuf::from));
        }
    }

    #[test]
    fn a_file_that_is_missing_is_empty_and_one_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("millrace.toml");
        assert!(read_file(Some(missing)).unwrap().url.is_none());
        assert!(read_file(None).unwrap().url.is_none());
        let error = read_file(Some(folder.path().to_owned())).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /"), "{error}");
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("millrace.toml");
        std::fs::write(&path, "urll = \"http://h\"").unwrap();
        let error = read_file(Some(path.clone())).unwrap_err();
        let told = format!("{}: unknown field `urll`", path.display());
        assert!(error.to_string().starts_with(&told), "{error}");
        assert!(error.downcast_ref::<UsageError>().is_some());
    }
}
