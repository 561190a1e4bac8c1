//! A task that hit a limit goes on once with a larger one, where its project allows it.

use millrace_domain::{AttemptId, Limit, LimitName, OutcomeKind, TaskState, Unit};
use millrace_store::{Acceptance, Finished, Raise};

use crate::harness::{Claimed, Harness, SILENT_SECONDS, report};

fn memory(value: u64) -> Raise {
    Raise {
        limit: Limit {
            name: LimitName::Memory,
            value,
            unit: Unit::MiB,
        },
        memory_class: Some("4g".to_owned()),
    }
}

async fn state_after(harness: &Harness, report: &Finished) -> TaskState {
    match harness.store().accept(report).await.unwrap() {
        Acceptance::Accepted { task_state, .. } => task_state,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Reports that the limit on memory was hit, and that 3 GiB may do.
async fn out_of_memory(harness: &Harness, claimed: Claimed, mib: u64) -> TaskState {
    let report = Finished {
        raise: Some(memory(mib)),
        ..report(claimed, OutcomeKind::OutOfMemory)
    };
    state_after(harness, &report).await
}

async fn allow(harness: &Harness) {
    let (owner, name) = ("main".parse().unwrap(), "main".parse().unwrap());
    let set = harness.store().project(&owner, &name, Some(true)).await;
    assert!(set.unwrap().unwrap().auto_raise);
    let read = harness.store().project(&owner, &name, None).await;
    assert!(read.unwrap().unwrap().auto_raise);
    let other = "other".parse().unwrap();
    let unknown = harness.store().project(&name, &other, None).await;
    assert_eq!(unknown.unwrap(), None);
}

#[tokio::test]
async fn a_hit_limit_is_raised_once_and_each_attempt_keeps_its_own() {
    let harness = Harness::new().await;
    allow(&harness).await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    assert_eq!(
        out_of_memory(&harness, claimed, 3072).await,
        TaskState::Waiting
    );
    let task = harness.task(build).await;
    assert_eq!(task.raised_limit, Some(memory(3072).limit));
    assert_eq!((task.outcome, task.attempts_counted), (None, 0));

    let released = harness.release().await;
    assert_eq!(released[0].memory_class, "4g");
    harness.publish().await;
    let again = harness.claim(builder, released[0].attempt_id).await;
    assert_eq!(
        out_of_memory(&harness, again, 4096).await,
        TaskState::Failed
    );
    let limits = async |id: AttemptId| harness.attempt(id).await.limits;
    assert_eq!(limits(claimed.attempt).await.memory_mib, 2048);
    let raised = limits(again.attempt).await;
    assert_eq!(
        (raised.memory_mib, raised.timeout_seconds),
        (3072, Some(1800))
    );
}

#[tokio::test]
async fn no_limit_is_raised_unasked_nor_beyond_what_builders_have_nor_after_a_cancel() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    assert_eq!(
        out_of_memory(&harness, claimed, 3072).await,
        TaskState::Failed,
        "the project does not wish it"
    );
    allow(&harness).await;
    let (_, claimed) = harness.running(builder).await;
    assert_eq!(
        out_of_memory(&harness, claimed, 9000).await,
        TaskState::Failed,
        "the only builder has 8 GiB"
    );
    let (build, claimed) = harness.running(builder).await;
    harness
        .store()
        .cancel_build(build, SILENT_SECONDS)
        .await
        .unwrap();
    assert_eq!(
        out_of_memory(&harness, claimed, 3072).await,
        TaskState::Cancelled
    );
}

#[tokio::test]
async fn what_an_earlier_attempt_finished_goes_along_with_the_next_order() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    let mut told = report(claimed, OutcomeKind::SandboxFailed);
    let mut second = told.packages[0].clone();
    second.position = 1;
    told.packages[0].outcome.kind = OutcomeKind::Succeeded;
    told.packages.push(second);
    assert_eq!(state_after(&harness, &told).await, TaskState::Waiting);
    harness.skip_delays().await;
    let mut finished = Vec::new();
    let released = harness
        .store()
        .release_tasks(&crate::harness::wide(), |task| {
            finished.clone_from(&task.finished);
            serde_json::Value::Null
        })
        .await
        .unwrap();
    assert_eq!(released.entries.len(), 1);
    let [package] = finished.as_slice() else {
        panic!("only the first package succeeded: {finished:?}")
    };
    assert_eq!((package.position, package.attempt_id), (0, claimed.attempt));
}
