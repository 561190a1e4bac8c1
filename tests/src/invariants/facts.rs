//! Plain data: what is there, from each place, without any judgement.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::chaos::Known;

/// Everything that is known of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What clients know.
    pub known: Known,
    /// Outcome kinds that a source's name may end with, by name; a name that is not here may end in any.
    pub expected: BTreeMap<String, String>,
    /// Whether a package that succeeded has files; the stand-in makes none.
    pub makes_files: bool,
    /// Table `builds`.
    pub builds: Vec<Build>,
    /// Table `tasks`.
    pub tasks: Vec<Task>,
    /// Table `attempts`.
    pub attempts: Vec<Attempt>,
    /// Table `attempt_packages`.
    pub packages: Vec<Package>,
    /// Table `result_files`.
    pub result_files: Vec<ResultFile>,
    /// Table `builders`.
    pub builders: Vec<Builder>,
    /// Attempts in the table `outbox`.
    pub outbox: Vec<String>,
    /// Reasons in the table `parked_messages`.
    pub parked: Vec<String>,
    /// Tasks in the table `reservations`.
    pub reserved: Vec<i64>,
    /// The broker's queues.
    pub queues: Vec<Queue>,
    /// Files of the result store.
    pub stored: Vec<StoredFile>,
    /// Whatever lies in the spools beside what an idle builder keeps.
    pub spooled: Vec<String>,
    /// Containers that carry a builder's label.
    pub containers: Vec<Container>,
    /// What the processes say of themselves.
    pub processes: Vec<Status>,
}

/// A build.
#[derive(Debug, Clone, Deserialize)]
pub struct Build {
    /// Its number.
    pub id: i64,
    /// Idempotency keys that name it; one when all is well.
    pub keys: Vec<String>,
    /// Names of its sources, in order.
    pub sources: Vec<String>,
    /// Digests of its uploaded sources.
    pub digests: Vec<String>,
    /// Its tasks.
    pub tasks: i64,
    /// Whether it came, with its end, from another site.
    pub imported: bool,
}

/// A task.
#[derive(Debug, Clone, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: i64,
    /// Its build.
    pub build_id: i64,
    /// Its state.
    pub state: String,
    /// How it ended.
    pub outcome: Option<Value>,
    /// The attempt that counts.
    pub current_attempt: Option<String>,
    /// Attempts made.
    pub attempts_made: i64,
    /// Those that ended in a fault of ours.
    pub attempts_counted: i64,
    /// It was released once more with a larger limit.
    pub raised: bool,
}

/// An attempt.
#[derive(Debug, Clone, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub id: String,
    /// Its task.
    pub task_id: i64,
    /// Its number within the task.
    pub number: i64,
    /// Its state.
    pub state: String,
    /// Why it was taken back.
    pub reason: Option<String>,
    /// How it ended.
    pub outcome: Option<Value>,
    /// Whether a builder or a poller had it.
    pub claimed: bool,
    /// Whether a builder had it.
    pub of_builder: bool,
    /// The poller of 2012 that had it.
    pub poller: Option<i64>,
    /// Bytes of its log.
    pub log_size: i64,
}

/// What became of one package of an attempt.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    /// The attempt.
    pub attempt_id: String,
    /// Position of the source.
    pub position: i64,
    /// How it ended.
    pub outcome: Value,
}

/// A file that the database names.
#[derive(Debug, Clone, Deserialize)]
pub struct ResultFile {
    /// The attempt.
    pub attempt_id: String,
    /// Position of the source.
    pub position: i64,
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: String,
}

/// A builder.
#[derive(Debug, Clone, Deserialize)]
pub struct Builder {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it was heard of lately.
    pub live: bool,
    /// Memory it offers, in MiB.
    pub memory_mib: i64,
    /// What is left of it.
    pub free_mib: i64,
    /// Sandboxes it offers.
    pub sandboxes: i64,
    /// What is left of them.
    pub free_sandboxes: i64,
}

/// A queue of the broker.
#[derive(Debug, Clone, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages in it, handed out or not.
    pub messages: u64,
}

/// A file of the result store.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Its path below the store's folder.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest; read for results and sources only.
    pub sha256: Option<String>,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The builder it belongs to.
    pub builder: String,
}

/// A process of the environment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Lines of its log that tell of a panic.
    pub panics: Vec<String>,
}

/// The kind of an outcome.
pub fn kind(outcome: &Value) -> &str {
    outcome["kind"].as_str().unwrap_or_default()
}

/// Whether an outcome is a fault of the pipeline's own, after which the task is tried again.
pub fn is_infrastructure(outcome: &Value) -> bool {
    matches!(
        kind(outcome),
        "builder_lost"
            | "builder_disk_full"
            | "sandbox_failed"
            | "repository_unreachable"
            | "internal_error"
    )
}

impl Task {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

impl Facts {
    /// The attempts of a task, by number.
    pub fn attempts_of(&self, task: i64) -> Vec<&Attempt> {
        let mut attempts: Vec<&Attempt> =
            self.attempts.iter().filter(|a| a.task_id == task).collect();
        attempts.sort_by_key(|attempt| attempt.number);
        attempts
    }
}
