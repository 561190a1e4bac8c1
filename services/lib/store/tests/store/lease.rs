use millrace_domain::{OutcomeKind, Phase, Stage, StageTime, Token};
use millrace_store::{
    Acceptance, Blockers, FileKey, Heartbeat, HeartbeatVerdict, LogAppend, UploadedFile,
};

use crate::harness::{Harness, file, held, report};

#[tokio::test]
async fn a_heartbeat_extends_the_lease_and_tells_how_far_the_builder_is() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    harness
        .database
        .execute("update attempts set lease_until = now() + interval '1 second'")
        .await;
    harness
        .database
        .execute("update builders set last_seen_at = now() - interval '1 hour'")
        .await;
    let stages = vec![StageTime {
        name: Stage::Prep,
        start: harness.attempt(claimed.attempt).await.offered_at,
        seconds: Some(1.5),
    }];
    let mut beating = held(claimed, Phase::Building);
    beating.stage = Some(Stage::Build);
    beating.stages.clone_from(&stages);
    let beat = Heartbeat {
        stopping: false,
        builder_id: builder,
        free_mib: 11,
        free_sandboxes: 3,
        hindered: Blockers::default(),
        attempts: vec![beating],
        lease_seconds: 45,
        finish_lease_seconds: 1800,
    };
    let verdicts = harness.store().heartbeat(&beat).await.unwrap();
    assert_eq!(verdicts, [(claimed.attempt, HeartbeatVerdict::Continue)]);
    let lease = "select (lease_until > now() + interval '40 seconds'
        and lease_until < now() + interval '50 seconds')::text from attempts";
    assert_eq!(harness.database.fetch_text(lease).await.unwrap(), "true");
    let attempt = harness.attempt(claimed.attempt).await;
    assert_eq!(
        (attempt.phase, attempt.stage),
        (Some(Phase::Building), Some(Stage::Build))
    );
    assert_eq!(attempt.stages, stages);
    let builder = &harness.store().list_builders().await.unwrap()[0];
    assert_eq!(
        (builder.free_mib, builder.free_sandboxes, builder.live),
        (11, 3, true)
    );
}

#[tokio::test]
async fn safe_results_get_the_finish_line_lease() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    harness.beat(claimed, Phase::Spooled).await;
    let lease = "select (lease_until > now() + interval '29 minutes')::text from attempts";
    assert_eq!(harness.database.fetch_text(lease).await.unwrap(), "true");
    harness.beat(claimed, Phase::Spooled).await;
    harness.sweep().await;
    assert_eq!(
        harness.beat(claimed, Phase::Reported).await,
        HeartbeatVerdict::Continue
    );
}

#[tokio::test]
async fn only_the_holder_of_the_lease_extends_it() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let (_, claimed) = harness.running(first).await;
    harness
        .database
        .execute("update attempts set lease_until = now() + interval '1 second'")
        .await;
    let mut forged = claimed;
    forged.lease = Token::new("guess").hash();
    assert_eq!(
        harness.beat(forged, Phase::Building).await,
        HeartbeatVerdict::Revoked
    );
    let mut stolen = claimed;
    stolen.builder = second;
    assert_eq!(
        harness.beat(stolen, Phase::Building).await,
        HeartbeatVerdict::Revoked
    );
    let mut unknown = claimed;
    unknown.attempt = millrace_domain::AttemptId::generate();
    assert_eq!(
        harness.beat(unknown, Phase::Building).await,
        HeartbeatVerdict::Revoked
    );
    let lease = "select (lease_until < now() + interval '2 seconds')::text from attempts";
    assert_eq!(harness.database.fetch_text(lease).await.unwrap(), "true");
}

#[tokio::test]
async fn each_attempt_of_a_heartbeat_gets_its_own_verdict_in_the_order_asked() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, accepted) = harness.running(builder).await;
    harness.accept(accepted, OutcomeKind::Succeeded).await;
    let (_, lost) = harness.running(builder).await;
    harness.let_lease_run_out(lost.attempt).await;
    harness.sweep().await;
    harness
        .database
        .execute("update tasks set not_before = now() + interval '1 hour' where state = 'waiting'")
        .await;
    let build = harness.submit().await;
    let attempt = harness.release().await[0].attempt_id;
    let cancelled = harness.claim(builder, attempt).await;
    harness.cancel(build).await;
    harness.submit().await;
    let attempt = harness.release().await[0].attempt_id;
    let working = harness.claim(builder, attempt).await;
    let beat = Heartbeat {
        stopping: false,
        builder_id: builder,
        free_mib: 0,
        free_sandboxes: 0,
        hindered: Blockers::default(),
        attempts: vec![
            held(working, Phase::Building),
            held(lost, Phase::Reported),
            held(cancelled, Phase::Building),
            held(lost, Phase::Building),
            held(accepted, Phase::Reported),
            held(cancelled, Phase::Spooled),
        ],
        lease_seconds: 45,
        finish_lease_seconds: 1800,
    };
    let verdicts: Vec<_> = harness.store().heartbeat(&beat).await.unwrap();
    let words: Vec<_> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(
        words,
        [
            HeartbeatVerdict::Continue,
            HeartbeatVerdict::Refused,
            HeartbeatVerdict::Cancel,
            HeartbeatVerdict::Revoked,
            HeartbeatVerdict::Accepted,
            // What is already safe is not thrown away.
            HeartbeatVerdict::Continue,
        ]
    );
}

#[tokio::test]
async fn a_report_without_its_files_asks_for_them_and_is_accepted_once_they_came() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    let mut full = report(claimed, OutcomeKind::Succeeded);
    full.packages[0].files = vec![file("a.rpm", 'a'), file("b.rpm", 'b')];
    let upload = |name: &'static str, digit: char| {
        let store = harness.store();
        let file = file(name, digit);
        let uploaded = UploadedFile {
            position: 0,
            name: file.name,
            size: file.size,
            sha256: file.sha256,
        };
        async move {
            store
                .record_file(claimed.attempt, &claimed.lease, &uploaded)
                .await
                .unwrap()
        }
    };
    assert!(upload("a.rpm", 'a').await);
    assert!(upload("b.rpm", 'f').await, "it came with another digest");
    assert!(upload("stray.log", 'c').await);
    let missing = vec![FileKey {
        position: 0,
        name: "b.rpm".parse().unwrap(),
    }];
    let answer = harness.store().accept(&full).await.unwrap();
    assert_eq!(answer, Acceptance::Missing(missing.clone()));
    assert_eq!(
        harness.beat(claimed, Phase::Reported).await,
        HeartbeatVerdict::Missing(missing)
    );
    assert_eq!(
        harness.beat(claimed, Phase::Spooled).await,
        HeartbeatVerdict::Continue
    );
    assert!(upload("b.rpm", 'b').await);
    assert_eq!(
        harness.beat(claimed, Phase::Reported).await,
        HeartbeatVerdict::Continue
    );
    let answer = harness.store().accept(&full).await.unwrap();
    assert!(matches!(answer, Acceptance::Accepted { .. }));
    assert!(!upload("late.rpm", 'd').await, "the lease is over");
    let package = harness.task(build).await.attempts[0].packages[0].clone();
    assert_eq!(
        package.files, full.packages[0].files,
        "no stray file is a result"
    );
    assert_eq!(
        harness.beat(claimed, Phase::Reported).await,
        HeartbeatVerdict::Accepted
    );
}

#[tokio::test]
async fn a_log_grows_only_at_its_end_and_only_under_the_lease() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    let append = |offset, len| {
        harness
            .store()
            .append_log_size(claimed.attempt, &claimed.lease, offset, len)
    };
    assert_eq!(append(0, 10).await.unwrap(), LogAppend::Stored { size: 10 });
    assert_eq!(
        append(0, 10).await.unwrap(),
        LogAppend::Mismatch { size: 10 }
    );
    assert_eq!(append(10, 5).await.unwrap(), LogAppend::Stored { size: 15 });
    let wrong = Token::new("wrong").hash();
    let refused = harness
        .store()
        .append_log_size(claimed.attempt, &wrong, 15, 1)
        .await
        .unwrap();
    assert_eq!(refused, LogAppend::NoLease);
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    assert_eq!(append(15, 1).await.unwrap(), LogAppend::NoLease);
    assert_eq!(harness.attempt(claimed.attempt).await.log_size, 15);
}
