//! A system that is well, as facts.

use serde_json::json;

use crate::chaos::{Known, Seen, Submission};
use crate::invariants::{
    Attempt, Build, Builder, Facts, Package, Queue, ResultFile, Status, StoredFile, Task,
};

pub(super) const LOST: &str = "lost";
pub(super) const GOOD: &str = "good";
pub(super) const BAD: &str = "bad";

pub(super) fn submission(key: &str, source: &str, build: i64) -> (String, Submission) {
    let submission = Submission {
        key: key.to_owned(),
        sources: vec![source.to_owned()],
        answers: vec![build],
        ..Submission::default()
    };
    (key.to_owned(), submission)
}

pub(super) fn build(id: i64, key: &str, source: &str) -> Build {
    Build {
        id,
        keys: vec![key.to_owned()],
        sources: vec![format!("{source}.src.rpm")],
        digests: vec!["d0".to_owned()],
        tasks: 1,
        imported: false,
    }
}

pub(super) fn attempt(id: &str, task_id: i64, number: i64, state: &str, kind: &str) -> Attempt {
    Attempt {
        id: id.to_owned(),
        task_id,
        number,
        state: state.to_owned(),
        reason: None,
        outcome: Some(json!({ "kind": kind })),
        claimed: true,
        of_builder: true,
        poller: None,
        log_size: 5,
    }
}

pub(super) fn task(id: i64, state: &str, attempt: &str, kind: &str, made: i64) -> Task {
    Task {
        id,
        build_id: id,
        state: state.to_owned(),
        outcome: Some(json!({ "kind": kind })),
        current_attempt: Some(attempt.to_owned()),
        attempts_made: made,
        attempts_counted: made - 1,
        raised: false,
    }
}

pub(super) fn stored(path: &str, sha256: &str) -> StoredFile {
    StoredFile {
        path: path.to_owned(),
        size: 5,
        sha256: Some(sha256.to_owned()),
    }
}

/// Build 1 succeeded at the second attempt, build 2 failed as it must, and nothing is left.
pub(super) fn healthy() -> Facts {
    let seen = Seen {
        state: "succeeded".to_owned(),
        outcome: json!({ "kind": "succeeded" }),
    };
    Facts {
        known: Known {
            submissions: [
                submission("k1", "hello", 1),
                submission("k2", "compile-error", 2),
            ]
            .into(),
            seen: [(1, seen)].into(),
            ..Known::default()
        },
        expected: [("hello", "succeeded"), ("compile-error", "build_failed")]
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .into(),
        makes_files: true,
        builds: vec![build(1, "k1", "hello"), build(2, "k2", "compile-error")],
        tasks: vec![
            task(1, "succeeded", GOOD, "succeeded", 2),
            task(2, "failed", BAD, "build_failed", 1),
        ],
        attempts: vec![
            attempt(LOST, 1, 1, "lost", "builder_lost"),
            attempt(GOOD, 1, 2, "finished", "succeeded"),
            attempt(BAD, 2, 1, "finished", "build_failed"),
        ],
        packages: vec![Package {
            attempt_id: GOOD.to_owned(),
            position: 0,
            outcome: json!({ "kind": "succeeded" }),
        }],
        result_files: vec![ResultFile {
            attempt_id: GOOD.to_owned(),
            position: 0,
            name: "hello.rpm".to_owned(),
            size: 5,
            sha256: "f0".to_owned(),
        }],
        builders: vec![Builder {
            id: "b0".to_owned(),
            name: "chaos-0".to_owned(),
            live: true,
            memory_mib: 100,
            free_mib: 100,
            sandboxes: 2,
            free_sandboxes: 2,
        }],
        queues: vec![
            queue("millrace.jobs.x86_64.2g", 0),
            queue("millrace.control.builder.b0", 0),
        ],
        stored: vec![
            stored("attempts/good/0/hello.rpm", "f0"),
            stored("logs/good/log", ""),
            stored("logs/bad/log", ""),
            stored("sources/d0/d0", "d0"),
        ],
        processes: vec![Status {
            name: "builder 0".to_owned(),
            running: true,
            panics: Vec::new(),
        }],
        ..Facts::default()
    }
}

pub(super) fn queue(name: &str, messages: u64) -> Queue {
    Queue {
        name: name.to_owned(),
        messages,
    }
}
