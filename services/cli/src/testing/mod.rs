//! What this crate's unit tests share.

pub mod server;

use std::time::Duration;

use millrace_chassis::ApiClient;
use serde_json::{Value, json};

use crate::client::Client;
use crate::config::Config;
use crate::model::Build;
use crate::retry::{Pauses, Timing};
use server::Server;

/// Pauses of a millisecond, so that a test of repeats takes no longer than the calls.
pub fn quick() -> Timing {
    let pauses = Pauses {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(1),
    };
    Timing {
        write_pauses: pauses,
        read_pauses: pauses,
        log_pauses: pauses,
        build_poll: Duration::from_millis(1),
        attempt_poll: Duration::from_millis(1),
        ..Timing::default()
    }
}

/// As [`quick`], for tests of a server that stays away: the first error is over the limit.
pub fn impatient() -> Timing {
    Timing {
        outage_limit: Duration::ZERO,
        ..quick()
    }
}

pub fn client_with(server: &Server, timing: Timing) -> Client {
    Client::new(ApiClient::new(server.url(), None).unwrap(), timing)
}

pub fn client(server: &Server) -> Client {
    client_with(server, quick())
}

/// What a command works with: this server, and the server's default project.
pub fn config(server: &Server) -> Config {
    Config {
        client: client(server),
        project: None,
    }
}

pub fn build(json: &Value) -> Build {
    serde_json::from_value(json.clone()).unwrap()
}

/// A build's JSON with one task per chroot and state; tasks have no attempts.
pub fn build_json(state: &str, tasks: &[(&str, &str)]) -> Value {
    let tasks: Vec<Value> = tasks
        .iter()
        .zip(1..)
        .map(|((chroot, state), id)| json!({"id": id, "chroot": chroot, "state": state}))
        .collect();
    json!({"id": 7, "state": state, "owner": "main", "project": "main",
        "submitted_at": "2026-01-02T03:04:05Z", "sources": [{"name": "a-1-1.src.rpm"}], "tasks": tasks})
}

/// An attempt's JSON; without a builder no builder took it.
pub fn attempt_json(number: u32, state: &str, builder: Option<&str>) -> Value {
    json!({"id": format!("a{number}"), "number": number, "state": state, "builder": builder})
}
