//! The part of the API's objects that this program reads. Fields that it does not know are ignored, and most may be
//! absent, so that it works with servers of earlier and later releases.

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptState, BuildState, Limit, Outcome, Stage, StageTime, TaskState};
use serde::Deserialize;

/// A page of a list.
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

/// Why a task waits, its place among those that wait, and the server's estimate of its start.
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
    /// Name of the poller of 2012 that has the attempt, in place of a builder.
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

/// The limits that an attempt runs under.
#[derive(Debug, Clone, Deserialize)]
pub struct AttemptLimits {
    pub memory_mib: u32,
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    #[serde(default)]
    pub disk_mib: Option<u32>,
}

/// Why an attempt is not finished although its work is done, such as a result store that is full.
#[derive(Debug, Clone, Deserialize)]
pub struct AttemptWait {
    pub message: String,
}

/// A builder, which the API names by a string or by an object with a name.
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
    /// The task in `chroot`; without one the only task, and none where there are several.
    pub fn task(&self, chroot: Option<&str>) -> Option<&Task> {
        match chroot {
            Some(name) => self.tasks.iter().find(|t| t.chroot == name),
            None => (self.tasks.len() == 1).then(|| &self.tasks[0]),
        }
    }
}

impl Task {
    /// The attempt with the highest number among those that a builder took.
    pub fn latest_attempt(&self) -> Option<&Attempt> {
        self.attempts
            .iter()
            .filter(|a| a.builder.is_some())
            .max_by_key(|a| a.number)
    }
}

impl Attempt {
    /// Whether nothing more can come of the attempt, neither log nor files.
    pub const fn has_ended(&self) -> bool {
        match self.state {
            AttemptState::Offered | AttemptState::Claimed => false,
            AttemptState::Finished | AttemptState::Lost | AttemptState::Revoked => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{attempt_json, build, build_json};
    use serde_json::json;

    #[test]
    fn a_build_of_the_first_release_is_read_and_unknown_fields_are_ignored() {
        let build = build(
            &json!({"id": 1, "state": "queued", "submitted_at": "2026-01-02T03:04:05Z", "new": [],
            "tasks": [{"id": 1, "chroot": "a-1-x", "state": "queued", "outcome": null,
                "attempts": [{"id": "a1", "number": 1, "state": "offered", "builder": null, "outcome": null}]}]}),
        );
        assert_eq!(build.tasks[0].attempts[0].log_size, 0);
        assert!(build.owner.is_empty());
    }

    #[test]
    fn a_builder_is_named_by_text_or_by_an_object() {
        for json in [json!("b1"), json!({"id": "x", "name": "b1"})] {
            let builder: Builder = serde_json::from_value(json).unwrap();
            assert_eq!(builder.name(), "b1");
        }
    }

    #[test]
    fn a_task_is_chosen_by_chroot_or_by_being_the_only_one() {
        let one = build(&build_json("running", &[("a-1-x", "running")]));
        assert_eq!(one.task(None).unwrap().chroot, "a-1-x");
        assert!(one.task(Some("b-1-x")).is_none());
        let two = build(&build_json(
            "running",
            &[("a-1-x", "running"), ("b-1-x", "queued")],
        ));
        assert_eq!(two.task(Some("b-1-x")).unwrap().id, 2);
        assert!(two.task(None).is_none());
    }

    #[test]
    fn the_latest_attempt_is_the_last_that_a_builder_took() {
        let mut json = build_json("running", &[("a-1-x", "running")]);
        json["tasks"][0]["attempts"] = json!([
            attempt_json(3, "offered", None),
            attempt_json(2, "claimed", Some("b2")),
            attempt_json(1, "lost", Some("b1")),
        ]);
        let build = build(&json);
        assert_eq!(build.tasks[0].latest_attempt().unwrap().number, 2);
    }

    #[test]
    fn an_attempt_has_ended_unless_it_is_offered_or_claimed() {
        for state in AttemptState::ALL {
            let json = attempt_json(1, state.as_str(), None);
            let attempt: Attempt = serde_json::from_value(json).unwrap();
            let goes_on = ["offered", "claimed"].contains(&state.as_str());
            assert_eq!(attempt.has_ended(), !goes_on, "{state}");
        }
    }
}
