//! Each rule is shown a system that is well, and one that is broken in just its way.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::chaos::{CancelAnswer, Known, Seen, Submission};
use crate::invariants::{
    Attempt, Build, Builder, Container, Package, Queue, ResultFile, Status, StoredFile, Task,
};

const LOST: &str = "lost";
const GOOD: &str = "good";
const BAD: &str = "bad";

fn submission(key: &str, source: &str, build: i64) -> (String, Submission) {
    let submission = Submission {
        key: key.to_owned(),
        sources: vec![source.to_owned()],
        answers: vec![build],
        ..Submission::default()
    };
    (key.to_owned(), submission)
}

fn build(id: i64, key: &str, source: &str) -> Build {
    Build {
        id,
        key: Some(key.to_owned()),
        sources: vec![format!("{source}.src.rpm")],
        digests: vec!["d0".to_owned()],
        tasks: 1,
    }
}

fn attempt(id: &str, task_id: i64, number: i64, state: &str, kind: &str) -> Attempt {
    Attempt {
        id: id.to_owned(),
        task_id,
        number,
        state: state.to_owned(),
        reason: None,
        outcome: Some(json!({ "kind": kind })),
        claimed: true,
        log_size: 5,
    }
}

fn task(id: i64, state: &str, attempt: &str, kind: &str, made: i64) -> Task {
    Task {
        id,
        build_id: id,
        state: state.to_owned(),
        outcome: Some(json!({ "kind": kind })),
        current_attempt: Some(attempt.to_owned()),
        attempts_made: made,
        attempts_counted: made - 1,
    }
}

fn stored(path: &str, sha256: &str) -> StoredFile {
    StoredFile {
        path: path.to_owned(),
        size: 5,
        sha256: Some(sha256.to_owned()),
    }
}

/// Build 1 succeeded at the second attempt, build 2 failed as it must, and nothing is left.
fn healthy() -> Facts {
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

fn queue(name: &str, messages: u64) -> Queue {
    Queue {
        name: name.to_owned(),
        messages,
    }
}

type Variant = (&'static str, fn(&mut Facts));

/// Ways to break a system that is well, each with the rule that must notice.
const VARIANTS: &[Variant] = &[
    ("an answered submission is stored whole", |f| {
        drop(f.builds.remove(0))
    }),
    ("an answered submission is stored whole", |f| {
        f.builds[0].tasks = 0
    }),
    ("an answered submission is stored whole", |f| {
        f.builds[0].sources.clear()
    }),
    ("a key stores one build", |f| {
        f.known.submissions.get_mut("k1").unwrap().answers.push(2)
    }),
    ("a key stores one build", |f| {
        f.builds.push(build(3, "k1", "hello"))
    }),
    ("each build was submitted", |f| {
        f.builds.push(build(3, "k3", "hello"))
    }),
    ("each build was submitted", |f| f.builds[0].key = None),
    ("no submission is refused", |f| {
        f.known.submissions.get_mut("k1").unwrap().refused = Some("422".to_owned());
    }),
    ("nothing contradicts itself while it runs", |f| {
        f.known.contradictions.push("x".to_owned())
    }),
    ("each task has ended", |f| {
        f.tasks[0].state = "running".to_owned()
    }),
    ("each task has ended", |f| f.tasks[0].outcome = None),
    ("what had ended never changes", |f| {
        f.tasks[0].state = "failed".to_owned()
    }),
    ("what had ended never changes", |f| {
        f.tasks[0].outcome = Some(json!({ "kind": "skipped" }))
    }),
    ("what had ended never changes", |f| drop(f.tasks.remove(0))),
    ("an outcome fits its sources", |f| {
        f.tasks[1].outcome = Some(json!({ "kind": "timed_out" }))
    }),
    ("an outcome fits its sources", |f| {
        f.tasks[1].state = "succeeded".to_owned()
    }),
    ("an outcome fits its sources", |f| {
        // Given up after one fault of ours in place of three.
        f.tasks[1].outcome = Some(json!({ "kind": "builder_lost" }));
        f.tasks[1].attempts_counted = 1;
    }),
    ("a cancel is kept, and nothing else cancels", |f| {
        f.known.cancels.insert(2, CancelAnswer::Accepted);
    }),
    ("a cancel is kept, and nothing else cancels", |f| {
        f.tasks[1].state = "cancelled".to_owned()
    }),
    ("a cancel is kept, and nothing else cancels", |f| {
        f.known.cancels.insert(2, CancelAnswer::TooLate);
        f.tasks[1].state = "cancelled".to_owned();
    }),
    ("attempts are numbered without a gap", |f| {
        drop(f.attempts.remove(0))
    }),
    ("attempts are numbered without a gap", |f| {
        f.tasks[0].attempts_made = 3
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.attempts[0] = attempt(LOST, 1, 1, "finished", "succeeded");
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.tasks[0].current_attempt = Some(LOST.to_owned());
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.attempts
            .push(attempt("late", 1, 3, "revoked", "cancelled"));
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.tasks[1].state = "waiting".to_owned()
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.attempts[1].state = "revoked".to_owned()
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.attempts[2].outcome = Some(json!({ "kind": "timed_out" }));
    }),
    (
        "at most three attempts count, and only faults of ours",
        |f| f.tasks[0].attempts_counted = 4,
    ),
    (
        "at most three attempts count, and only faults of ours",
        |f| f.tasks[1].attempts_counted = 1,
    ),
    (
        "at most three attempts count, and only faults of ours",
        |f| f.tasks[0].attempts_counted = 0,
    ),
    ("no attempt is on offer or claimed", |f| {
        f.attempts[0].state = "claimed".to_owned()
    }),
    ("no attempt is on offer or claimed", |f| {
        f.attempts[0].state = "offered".to_owned()
    }),
    ("an accepted attempt tells of each package", |f| {
        f.packages.clear()
    }),
    ("an accepted attempt tells of each package", |f| {
        f.result_files.clear()
    }),
    ("results belong to accepted attempts", |f| {
        f.result_files[0].attempt_id = LOST.to_owned()
    }),
    ("results belong to accepted attempts", |f| {
        f.stored.push(stored("attempts/lost/0/hello.rpm", "f0"));
    }),
    ("the bytes of results are what was promised", |f| {
        drop(f.stored.remove(0))
    }),
    ("the bytes of results are what was promised", |f| {
        f.stored[0].sha256 = Some("f1".to_owned())
    }),
    ("the bytes of results are what was promised", |f| {
        f.stored[0].size = 4
    }),
    ("the store holds no file that no result names", |f| {
        f.stored.push(stored("attempts/good/0/more.rpm", "f1"));
    }),
    ("the store holds no file that no result names", |f| {
        f.stored.push(stored("sources/d1/d1", "d1"))
    }),
    ("the log of an attempt is whole", |f| {
        f.attempts[1].log_size = 6
    }),
    ("the log of an attempt is whole", |f| {
        drop(f.stored.remove(2))
    }),
    ("the sources of builds are stored", |f| {
        drop(f.stored.remove(3))
    }),
    ("the sources of builds are stored", |f| {
        f.stored[3].sha256 = Some("d1".to_owned())
    }),
    ("no upload is left half done", |f| {
        f.stored.push(stored("staging/x", ""))
    }),
    ("no order is left to publish", |f| {
        f.outbox.push(GOOD.to_owned())
    }),
    ("nothing is parked", |f| f.parked.push("x".to_owned())),
    ("no room is kept for a task", |f| f.reserved.push(1)),
    ("no message is left in a queue", |f| {
        f.queues[0].messages = 1
    }),
    ("no queue is left of a builder that is gone", |f| {
        f.queues.push(queue("millrace.control.builder.b1", 0));
    }),
    ("no sandbox is left", |f| {
        f.containers.push(Container {
            id: "c".to_owned(),
            builder: "b0".to_owned(),
        });
    }),
    ("nothing is left in a spool", |f| {
        f.spooled.push("x".to_owned())
    }),
    ("a builder at rest has all its room", |f| {
        f.builders[0].free_mib = 99
    }),
    ("a builder at rest has all its room", |f| {
        f.builders[0].free_sandboxes = 1
    }),
    ("a builder at rest has all its room", |f| {
        f.builders[0].live = false
    }),
    ("every process runs and none has panicked", |f| {
        f.processes[0].running = false
    }),
    ("every process runs and none has panicked", |f| {
        f.processes[0].panics.push("x".to_owned())
    }),
];

#[test]
fn a_system_that_is_well_passes() {
    assert_eq!(check(&healthy()), []);
}

#[test]
fn a_cancelled_build_may_count_one_attempt_less() {
    let mut facts = healthy();
    facts.known.cancels.insert(2, CancelAnswer::Accepted);
    facts.tasks[1].state = "cancelled".to_owned();
    facts.tasks[1].outcome = Some(json!({ "kind": "cancelled" }));
    facts.attempts[2] = attempt(BAD, 2, 1, "lost", "builder_lost");
    assert_eq!(check(&facts), []);
}

#[test]
fn each_broken_variant_is_caught_by_its_rule() {
    for (number, (rule, break_it)) in VARIANTS.iter().enumerate() {
        let mut facts = healthy();
        break_it(&mut facts);
        let caught = check(&facts)
            .into_iter()
            .any(|violation| violation.rule == *rule);
        assert!(caught, "variant {number} passes the rule {rule:?}");
    }
}

#[test]
fn each_rule_has_a_broken_variant() {
    let shown: BTreeSet<&str> = VARIANTS.iter().map(|(rule, _)| *rule).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(rules, shown);
}
