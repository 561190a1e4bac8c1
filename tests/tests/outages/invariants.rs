//! The checker notices what is really broken: rows, files, messages and containers that must not be, or are gone.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use millrace_bus::testing::plant;
use millrace_store::Inspector;
use millrace_tests::chaos::{Ended, Kind, Options, SandboxKind, run_to_rest};
use millrace_tests::invariants::check;
use millrace_tests::until;

/// Statements past every guard and key, each with the rule that must notice.
const STATEMENTS: &[(&str, &str)] = &[
    (
        "an answered submission is stored whole",
        "delete from builds where id = 1",
    ),
    (
        "a key stores one build",
        "update idempotency_keys set build_id = 3 where build_id = 2",
    ),
    (
        "each build was submitted",
        "delete from idempotency_keys where build_id = 4",
    ),
    (
        "each task has ended",
        "update tasks set state = 'waiting', outcome = null, ended_at = null where build_id = 5",
    ),
    (
        "what had ended never changes",
        "update tasks set state = 'failed' where build_id = 6",
    ),
    (
        "attempts are numbered without a gap",
        "update tasks set attempts_made = attempts_made + 1 where build_id = 6",
    ),
    (
        "at most three attempts count, and only faults of ours",
        "update tasks set attempts_counted = 2 where build_id = 6",
    ),
    (
        "one attempt is accepted, the current and last one",
        "update tasks set current_attempt = (select id from attempts where task_id <> tasks.id limit 1) where build_id = 6",
    ),
    (
        "no attempt is on offer or claimed",
        "update attempts set state = 'offered' where task_id = (select id from tasks where build_id = 5)",
    ),
    (
        "an accepted attempt tells of each package",
        "delete from attempt_packages where attempt_id = (select current_attempt from tasks where build_id = 7)",
    ),
    (
        "no order is left to publish",
        "insert into outbox (attempt_id, task_id, arch, memory_class, body, free_at)
         select id, task_id, 'none', 'none', '{}', now() + interval '1 day' from attempts limit 1",
    ),
    (
        "nothing is parked",
        "insert into parked_messages (queue, reason, body) values ('q', 'planted', '')",
    ),
];

/// A pipeline at rest in which nothing was broken.
async fn at_rest(folder: &Path) -> Ended {
    let options = Options {
        minutes: 0.2,
        sandbox: SandboxKind::Noop,
        tasks: 16,
        builders: 1,
        frontends: 1,
        without: Kind::value_variants().to_vec(),
        settle_minutes: 3.0,
        ..Options::default()
    };
    run_to_rest(&options, 1, folder.to_owned()).await
}

/// The broker counts its messages each 5 s, so one look may be too early.
async fn assert_caught(ended: &Ended, rule: &str) {
    until(&format!("it is noticed that not: {rule}"), async || {
        let violations = check(&ended.facts().await);
        violations.iter().any(|v| v.rule == rule).then_some(())
    })
    .await;
}

fn first_below(folder: &Path) -> PathBuf {
    let entry = std::fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    if entry.is_dir() {
        first_below(&entry)
    } else {
        entry
    }
}

fn write(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "planted").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn what_is_really_broken_is_caught() {
    let folder = tempfile::tempdir().unwrap();
    let ended = at_rest(folder.path()).await;
    assert!(ended.report.passed(), "{}", ended.report);
    files(&ended).await;
    container(&ended).await;
    // What is broken in the database would be repaired or refused by those who run.
    for member in ended
        .environment
        .builders
        .iter()
        .chain(&ended.environment.frontends)
    {
        member.process.lock().await.take().unwrap().kill();
    }
    assert_caught(&ended, "every process runs and none has panicked").await;
    plant(
        &ended.environment.broker.url(),
        "millrace.jobs.x86_64.2g",
        b"{}",
    )
    .await
    .unwrap();
    assert_caught(&ended, "no message is left in a queue").await;
    let inspector = Inspector::at(&ended.environment.database.url()).unwrap();
    for (rule, statement) in STATEMENTS {
        let sql = format!(
            "do $$ begin set local session_replication_role = replica; {statement}; end $$"
        );
        inspector.execute(&sql).await.unwrap();
        assert_caught(&ended, rule).await;
    }
}

async fn files(ended: &Ended) {
    let results = ended.environment.results();
    write(&results.join("staging/planted"));
    assert_caught(ended, "no upload is left half done").await;
    write(&results.join("attempts/00000000-0000-0000-0000-000000000000/0/stale.rpm"));
    assert_caught(ended, "results belong to accepted attempts").await;
    write(&results.join("sources/00/0000"));
    assert_caught(ended, "the store holds no file that no result names").await;
    std::fs::remove_file(results.join("sources/00/0000")).unwrap();
    std::fs::remove_dir(results.join("sources/00")).unwrap();
    std::fs::write(first_below(&results.join("logs")), "").unwrap();
    assert_caught(ended, "the log of an attempt is whole").await;
    std::fs::remove_file(first_below(&results.join("sources"))).unwrap();
    assert_caught(ended, "the sources of builds are stored").await;
    write(&ended.environment.spools()[0].join("planted"));
    assert_caught(ended, "nothing is left in a spool").await;
}

async fn container(ended: &Ended) {
    let label = format!("millrace.builder={}", ended.report.facts.builders[0].id);
    let docker = |args: &[&str]| {
        let output = Command::new("docker").args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let image = &ended.environment.settings.image;
    let id = docker(&["create", "--label", &label, image, "true"]);
    assert_caught(ended, "no sandbox is left").await;
    docker(&["rm", "--force", &id]);
}
