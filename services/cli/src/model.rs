//! The API's objects, as far as people are shown them. Unknown fields are ignored.

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptState, BuildState, Limit, Outcome, Stage, StageTime, TaskState};
use serde::Deserialize;

/// A page of objects.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Build {
    pub id: i64,
    pub state: BuildState,
    #[serde(default)]
    pub owner: String,
    #[serde(default)]
    pub project: String,
    pub submitted_at: DateTime<Utc>,
    #[serde(default)]
    pub sources: Vec<Source>,
    pub tasks: Vec<Task>,
}

#[cfg(test)]
impl Default for Build {
    fn default() -> Self {
        Self {
            id: 1,
            state: BuildState::Succeeded,
            owner: "main".to_owned(),
            project: "main".to_owned(),
            submitted_at: DateTime::default(),
            sources: Vec::new(),
            tasks: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Task {
    pub id: i64,
    pub chroot: String,
    pub state: TaskState,
    pub outcome: Option<Outcome>,
    #[serde(default)]
    pub raised_limit: Option<Limit>,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    #[serde(default)]
    pub wait: Option<Wait>,
}

/// Why a task waits.
#[derive(Debug, Clone, Deserialize)]
pub struct Wait {
    pub message: String,
    #[serde(default)]
    pub position: Option<u64>,
    #[serde(default)]
    pub estimated_start: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Attempt {
    pub id: String,
    pub number: u32,
    pub state: AttemptState,
    pub builder: Option<Builder>,
    /// The poller of 2012 that has it in a builder's place.
    #[serde(default)]
    pub poller: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub stage: Option<Stage>,
    #[serde(default)]
    pub waits_for: Option<AttemptWait>,
    pub outcome: Option<Outcome>,
    #[serde(default)]
    pub packages: Vec<Package>,
    #[serde(default)]
    pub stages: Vec<StageTime>,
    #[serde(default)]
    pub log_size: u64,
    #[serde(default)]
    pub image_digest: Option<String>,
    #[serde(default)]
    pub image_baked_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub claimed_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub limits: Option<AttemptLimits>,
}

/// What an attempt was given.
#[derive(Debug, Clone, Deserialize)]
pub struct AttemptLimits {
    pub memory_mib: u32,
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    #[serde(default)]
    pub disk_mib: Option<u32>,
}

/// What an attempt waits for whose work is done.
#[derive(Debug, Clone, Deserialize)]
pub struct AttemptWait {
    pub message: String,
}

/// A builder is shown by name; the API may tell just that or an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Builder {
    Name(String),
    Object { name: String },
}

impl Builder {
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Object { name } => name,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    pub source: String,
    pub outcome: Outcome,
    #[serde(default)]
    pub files: Vec<File>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct File {
    pub name: String,
    pub size: u64,
    pub sha256: String,
    pub url: String,
}

impl Build {
    /// The task of a chroot, or the only one.
    pub fn task(&self, chroot: Option<&str>) -> Option<&Task> {
        match chroot {
            Some(name) => self.tasks.iter().find(|t| t.chroot == name),
            None => (self.tasks.len() == 1).then(|| &self.tasks[0]),
        }
    }
}

impl Task {
    /// The latest attempt that a builder took.
    pub fn latest_attempt(&self) -> Option<&Attempt> {
        self.attempts
            .iter()
            .filter(|a| a.builder.is_some())
            .max_by_key(|a| a.number)
    }
}
