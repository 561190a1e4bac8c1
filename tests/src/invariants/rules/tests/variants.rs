//! Ways to break a system that is well.

use serde_json::json;

use super::healthy::{GOOD, LOST, attempt, build, queue, stored};
use crate::chaos::CancelAnswer;
use crate::invariants::{Container, Facts};

/// A rule, and a change that it must notice.
pub(super) type Variant = (&'static str, fn(&mut Facts));

/// Ways to break a system that is well, each with the rule that must notice.
pub(super) const VARIANTS: &[Variant] = &[
    ("an answered submission is stored whole", |f| {
        drop(f.builds.remove(0));
    }),
    ("an answered submission is stored whole", |f| {
        f.builds[0].tasks = 0;
    }),
    ("an answered submission is stored whole", |f| {
        f.builds[0].sources.clear();
    }),
    ("a key stores one build", |f| {
        f.known.submissions.get_mut("k1").unwrap().answers.push(2);
    }),
    ("a key stores one build", |f| {
        f.builds.push(build(3, "k1", "hello"));
    }),
    ("each build was submitted", |f| {
        f.builds.push(build(3, "k3", "hello"));
    }),
    ("each build was submitted", |f| {
        f.builds[0].keys.clear();
    }),
    ("no submission is refused", |f| {
        f.known.submissions.get_mut("k1").unwrap().refused = Some("422".to_owned());
    }),
    ("nothing contradicts itself while it runs", |f| {
        f.known.contradictions.push("x".to_owned());
    }),
    ("each task has ended", |f| {
        f.tasks[0].state = "running".to_owned();
    }),
    ("each task has ended", |f| {
        f.tasks[0].outcome = None;
    }),
    ("what had ended never changes", |f| {
        f.tasks[0].state = "failed".to_owned();
    }),
    ("what had ended never changes", |f| {
        f.tasks[0].outcome = Some(json!({ "kind": "skipped" }));
    }),
    ("what had ended never changes", |f| {
        drop(f.tasks.remove(0));
    }),
    ("an outcome fits its sources", |f| {
        f.tasks[1].outcome = Some(json!({ "kind": "timed_out" }));
    }),
    ("an outcome fits its sources", |f| {
        f.tasks[1].state = "succeeded".to_owned();
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
        f.tasks[1].state = "cancelled".to_owned();
    }),
    ("a cancel is kept, and nothing else cancels", |f| {
        f.known.cancels.insert(2, CancelAnswer::TooLate);
        f.tasks[1].state = "cancelled".to_owned();
    }),
    ("attempts are numbered without a gap", |f| {
        drop(f.attempts.remove(0));
    }),
    ("attempts are numbered without a gap", |f| {
        f.tasks[0].attempts_made = 3;
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
        f.tasks[1].state = "waiting".to_owned();
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.attempts[1].state = "revoked".to_owned();
    }),
    ("one attempt is accepted, the current and last one", |f| {
        f.attempts[2].outcome = Some(json!({ "kind": "timed_out" }));
    }),
    (
        "a build has one owner, and the queue never gives it back",
        |f| f.attempts[0].poller = Some(1),
    ),
    (
        "a build has one owner, and the queue never gives it back",
        |f| {
            f.attempts[1].poller = Some(1);
            f.attempts[1].of_builder = false;
        },
    ),
    (
        "a build has one owner, and the queue never gives it back",
        |f| {
            f.tasks[1].build_id = 1;
            f.attempts[2].poller = Some(1);
            f.attempts[2].of_builder = false;
        },
    ),
    (
        "at most three attempts count, and only faults of ours",
        |f| {
            f.tasks[0].attempts_counted = 4;
        },
    ),
    (
        "at most three attempts count, and only faults of ours",
        |f| {
            f.tasks[1].attempts_counted = 1;
        },
    ),
    (
        "at most three attempts count, and only faults of ours",
        |f| {
            f.tasks[0].attempts_counted = 0;
        },
    ),
    ("no attempt is on offer or claimed", |f| {
        f.attempts[0].state = "claimed".to_owned();
    }),
    ("no attempt is on offer or claimed", |f| {
        f.attempts[0].state = "offered".to_owned();
    }),
    ("an accepted attempt tells of each package", |f| {
        f.packages.clear();
    }),
    ("an accepted attempt tells of each package", |f| {
        f.result_files.clear();
    }),
    ("results belong to accepted attempts", |f| {
        f.result_files[0].attempt_id = LOST.to_owned();
    }),
    ("results belong to accepted attempts", |f| {
        f.stored.push(stored("attempts/lost/0/hello.rpm", "f0"));
    }),
    ("the bytes of results are what was promised", |f| {
        drop(f.stored.remove(0));
    }),
    ("the bytes of results are what was promised", |f| {
        f.stored[0].sha256 = Some("f1".to_owned());
    }),
    ("the bytes of results are what was promised", |f| {
        f.stored[0].size = 4;
    }),
    ("the store holds no file that no result names", |f| {
        f.stored.push(stored("attempts/good/0/more.rpm", "f1"));
    }),
    ("the store holds no file that no result names", |f| {
        f.stored.push(stored("sources/d1/d1", "d1"));
    }),
    ("the log of an attempt is whole", |f| {
        f.attempts[1].log_size = 6;
    }),
    ("the log of an attempt is whole", |f| {
        drop(f.stored.remove(2));
    }),
    ("the sources of builds are stored", |f| {
        drop(f.stored.remove(3));
    }),
    ("the sources of builds are stored", |f| {
        f.stored[3].sha256 = Some("d1".to_owned());
    }),
    ("no upload is left half done", |f| {
        f.stored.push(stored("staging/x", ""));
    }),
    ("no order is left to publish", |f| {
        f.outbox.push(GOOD.to_owned());
    }),
    ("nothing is parked", |f| {
        f.parked.push("x".to_owned());
    }),
    ("no room is kept for a task", |f| {
        f.reserved.push(1);
    }),
    ("no message is left in a queue", |f| {
        f.queues[0].messages = 1;
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
        f.spooled.push("x".to_owned());
    }),
    ("a builder at rest has all its room", |f| {
        f.builders[0].free_mib = 99;
    }),
    ("a builder at rest has all its room", |f| {
        f.builders[0].free_sandboxes = 1;
    }),
    ("a builder at rest has all its room", |f| {
        f.builders[0].live = false;
    }),
    ("every process runs and none has panicked", |f| {
        f.processes[0].running = false;
    }),
    ("every process runs and none has panicked", |f| {
        f.processes[0].panics.push("x".to_owned());
    }),
];
