//! The `millrace` command, run as a user runs it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::until;

/// The command with a server and a token.
#[derive(Debug, Clone)]
pub struct Cli {
    /// Path of the binary.
    pub binary: PathBuf,
    /// The server's address.
    pub url: String,
    /// The admin token.
    pub token: String,
}

/// What a run of the command printed, and its exit code.
#[derive(Debug)]
pub struct CliOutput {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cli {
    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> CliOutput {
        let output = self.command(args).output().await.unwrap();
        CliOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command, ready to be spawned.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env_clear()
            .env("MILLRACE_URL", &self.url)
            .env("MILLRACE_TOKEN", &self.token)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs it with `--json` and reads the answer; panics unless it printed JSON. A server that is away or busy (exit
    /// code 3) is asked again for a minute, as a script would.
    pub async fn json(&self, args: &[&str]) -> Value {
        let args = [&["--json"], args].concat();
        until(&format!("the server answers to {args:?}"), async || {
            let output = self.run(&args).await;
            match serde_json::from_str(&output.stdout) {
                Ok(value) => Some(value),
                Err(_) if output.code == 3 => None,
                Err(error) => panic!("{args:?}: {error}: {output:?}"),
            }
        })
        .await
    }

    /// Submits one source package and returns the build's id.
    pub async fn submit(&self, source: &str, more: &[&str]) -> i64 {
        let build = self.json(&[&["submit", source], more].concat()).await;
        build["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("no id in {build}"))
    }

    /// A build as the API shows it.
    pub async fn show(&self, build: i64) -> Value {
        self.json(&["show", &build.to_string()]).await
    }

    /// The log of a build's latest attempt.
    pub async fn log(&self, build: i64) -> String {
        self.run(&["log", &build.to_string()]).await.stdout
    }
}
