//! Attempts end to end with the stand-in for sandboxes and a fake frontend. There is no broker, so each attempt stops
//! at its report, which is where restarts are tested.

use std::path::Path;
use std::time::Duration;

use millrace_bus::{Bus, BusConfig, Topology};
use millrace_chassis::{AllowList, FetchLimits, Fetcher, Guard, Shutdown};
use millrace_domain::{BuilderId, OutcomeKind, Phase, Token};
use millrace_sandbox::{NoopEngine, Profile, Runtime};
use millrace_wire::{AttemptVerdict, DeclineReason, ManifestFile, PackageReport, samples};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::*;
use crate::attempt::recover::{adopt, recover};
use crate::attempt_registry::AttemptRegistry;
use crate::config::sandbox::{SandboxCaps, SandboxSettings};
use crate::engine::missing_images::MissingImages;
use crate::engine::room::Room;
use crate::engine::self_test::SelfTests;
use crate::frontend::fake::FakeFrontend;
use crate::spool::Spool;
use crate::spool::atomic_file::Durability;
use crate::spool::disk_space::SpoolSpace;

async fn context(fake: &FakeFrontend, identity: &Path) -> Arc<Context> {
    context_on(NoopEngine::new("test"), fake, identity).await
}

async fn context_on(engine: NoopEngine, fake: &FakeFrontend, identity: &Path) -> Arc<Context> {
    let shutdown = Shutdown::manual();
    let (session, frontend) = fake.client();
    session.enrol(&shutdown).await.unwrap();
    let nowhere = "amqp://u:p@127.0.0.1:1/x".into();
    let bus = Bus::start(BusConfig::new(&nowhere, "test").unwrap(), Topology::none());
    let guard = Guard::new(AllowList::default());
    let (room, heartbeat_wake) = (Room::new(4096, 2), Arc::new(Notify::new()));
    Arc::new(Context {
        builder: BuilderId::generate(),
        name: "test".to_owned(),
        sandboxes: SandboxSettings {
            profile: Profile::Privileged,
            device_nodes: true,
            network: "none".to_owned(),
            supervisor: "/nowhere".into(),
            max_source_bytes: 1,
            caps: SandboxCaps::default(),
        },
        runtime: Runtime::Noop(engine),
        frontend,
        publisher: bus.publisher(),
        fetcher: Fetcher::new(guard, FetchLimits::default()).unwrap(),
        fetch_retry_time: Duration::ZERO,
        spool: Spool::open(identity).unwrap(),
        disk: SpoolSpace::new(identity, 0, &room, &heartbeat_wake),
        missing_images: MissingImages::default(),
        spool_wait_limit: Duration::from_secs(5),
        room,
        registry: AttemptRegistry::default(),
        self_tests: SelfTests::default(),
        heartbeat_wake,
        uploads: Semaphore::new(2),
        leaving: shutdown.hard().clone(),
        shutdown,
    })
}

fn claimed(ctx: &Arc<Context>, phase: Phase) -> Attempt {
    let record = Record {
        job: samples::job(),
        nonce: Token::new("nonce"),
        lease_token: Some(Token::new("lease")),
        phase,
        packages: Vec::new(),
        stages: Vec::new(),
        image_digest: None,
        image_baked_at: None,
    };
    let folder = ctx.spool.folder(record.job.attempt_id);
    folder.make().unwrap();
    folder.write(&record, Durability::ProcessCrash).unwrap();
    let running = RunningAttempt::new(
        record.job.attempt_id,
        Token::new("lease"),
        phase,
        Vec::new(),
    );
    assert!(ctx.registry.insert(&running));
    Attempt {
        ctx: Arc::clone(ctx),
        running,
        folder,
        record,
    }
}

#[test]
fn a_line_that_is_logged_for_an_attempt_carries_its_id() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file.reopen().unwrap()))
        .finish();
    let id = samples::job().attempt_id;
    tracing::subscriber::with_default(subscriber, || {
        span(id).in_scope(|| tracing::error!("a step failed"));
    });
    let log = std::fs::read_to_string(file.path()).unwrap();
    assert!(log.contains(&format!("attempt.id={id}")), "{log}");
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_attempt_ships_its_log_gives_its_room_back_and_waits_with_its_report() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let attempt = claimed(&ctx, Phase::Fetching);
    let (running, folder) = (Arc::clone(&attempt.running), attempt.folder.clone());
    let reservation = ctx.room.reserve(2048).unwrap();
    let task = tokio::spawn(run(attempt, reservation));
    until("the report", || folder.read_report().unwrap().is_some()).await;
    assert_eq!(ctx.room.free().sandboxes, 2);
    let report = folder.read_report().unwrap().unwrap();
    assert_eq!(report.outcome.kind, OutcomeKind::Succeeded);
    assert_eq!(report.packages.len(), 2);
    let log = String::from_utf8(fake.state().log.clone()).unwrap();
    assert_eq!(report.log_size, log.len() as u64);
    assert!(log.contains("package 2 of 2: spam-2-1.src.rpm") && log.contains("no-op stand-in"));

    running.apply(AttemptVerdict::Revoked);
    task.await.unwrap();
    assert_eq!(ctx.registry.count(), 0);
    assert!(ctx.spool.find().unwrap().is_empty());
}

#[tokio::test]
async fn a_report_that_was_not_confirmed_is_taken_up_after_a_restart() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let attempt = claimed(&ctx, Phase::Fetching);
    let folder = attempt.folder.clone();
    let reservation = ctx.room.reserve(2048).unwrap();
    let task = tokio::spawn(run(attempt, reservation));
    until("the report", || folder.read_report().unwrap().is_some()).await;
    ctx.shutdown.stop_now();
    task.await.unwrap();

    let ctx = context(&fake, identity.path()).await;
    let found = ctx.spool.find().unwrap().remove(0);
    let task = tokio::spawn(recover(adopt(&ctx, found).unwrap()));
    until("taking it up", || ctx.registry.count() == 1).await;
    ctx.registry
        .get(samples::job().attempt_id)
        .unwrap()
        .apply(AttemptVerdict::Accepted);
    // Accepted meanwhile: closed as soon as the report goes out, and at the latest with the lease.
    ctx.registry
        .get(samples::job().attempt_id)
        .unwrap()
        .revoke();
    task.await.unwrap();
    assert!(ctx.spool.find().unwrap().is_empty());
}

#[tokio::test]
async fn what_was_still_building_is_reported_as_lost_with_its_log() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let attempt = claimed(&ctx, Phase::Fetching);
    std::fs::write(attempt.folder.log(), "half a lo").unwrap();
    let folder = attempt.folder.clone();
    drop(attempt);
    let ctx = context(&fake, identity.path()).await;
    let found = ctx.spool.find().unwrap().remove(0);
    let task = tokio::spawn(recover(adopt(&ctx, found).unwrap()));
    until("the report", || folder.read_report().unwrap().is_some()).await;
    let report = folder.read_report().unwrap().unwrap();
    assert_eq!(report.outcome.kind, OutcomeKind::BuilderLost);
    let log = String::from_utf8(fake.state().log.clone()).unwrap();
    assert!(log.starts_with("half a lo") && log.contains("restarted"));
    ctx.shutdown.stop_now();
    task.await.unwrap();
}

#[tokio::test]
async fn spooled_files_are_uploaded_after_a_restart() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let mut attempt = claimed(&ctx, Phase::Spooled);
    let results = attempt.folder.make_results(0).unwrap();
    std::fs::write(results.join("build.log"), "built").unwrap();
    std::fs::write(attempt.folder.log(), "log").unwrap();
    attempt.record.packages = vec![PackageReport {
        position: 0,
        source: "pkg-1-1.src.rpm".parse().unwrap(),
        outcome: samples::finished().outcome,
        files: vec![ManifestFile {
            name: "build.log".parse().unwrap(),
            size: 5,
            sha256: "digest".to_owned(),
        }],
    }];
    attempt
        .folder
        .write(&attempt.record, Durability::ProcessCrash)
        .unwrap();
    let folder = attempt.folder.clone();
    let ctx = context(&fake, identity.path()).await;
    fake.state().away_for = 1;
    let found = ctx.spool.find().unwrap().remove(0);
    let task = tokio::spawn(recover(adopt(&ctx, found).unwrap()));
    until("the report", || folder.read_report().unwrap().is_some()).await;
    assert_eq!(
        fake.state().files,
        [("0/build.log".to_owned(), "digest".to_owned())]
    );
    let report = folder.read_report().unwrap().unwrap();
    assert_eq!(report.outcome.kind, OutcomeKind::BuildFailed);
    ctx.shutdown.stop_now();
    task.await.unwrap();
}

#[tokio::test]
async fn a_claim_without_an_answer_is_asked_for_again_and_handed_back() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let mut attempt = claimed(&ctx, Phase::Fetching);
    attempt.record.lease_token = None;
    attempt
        .folder
        .write(&attempt.record, Durability::ProcessCrash)
        .unwrap();
    let ctx = context(&fake, identity.path()).await;
    let found = ctx.spool.find().unwrap().remove(0);
    tokio::spawn(recover(adopt(&ctx, found).unwrap()))
        .await
        .unwrap();
    let state = fake.state();
    assert_eq!(state.nonces, ["nonce"]);
    assert_eq!(state.declined.len(), 1);
    assert_eq!(state.declined[0].reason, DeclineReason::Stopping);
    assert!(state.declined[0].lease_token.is_some());
    assert!(ctx.spool.find().unwrap().is_empty());
}

#[tokio::test]
async fn a_cancelled_attempt_does_not_wait_for_the_broker() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let endless = NoopEngine::new("test").taking(Duration::from_hours(1));
    let ctx = context_on(endless, &fake, identity.path()).await;
    let attempt = claimed(&ctx, Phase::Fetching);
    let id = attempt.running.id();
    attempt.running.apply(AttemptVerdict::Cancel);
    let reservation = ctx.room.reserve(2048).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), run(attempt, reservation));
    ended.await.expect("it does not wait for the broker");
    let declined = fake.state().declined.remove(0);
    assert_eq!(declined.attempt_id, id);
    assert!(declined.lease_token.is_some());
    assert_eq!(ctx.registry.count(), 0);
    assert!(ctx.spool.find().unwrap().is_empty());
}

#[tokio::test]
async fn an_attempt_whose_lease_is_gone_leaves_nothing() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let attempt = claimed(&ctx, Phase::Fetching);
    attempt.running.apply(AttemptVerdict::Revoked);
    let reservation = ctx.room.reserve(2048).unwrap();
    run(attempt, reservation).await;
    assert!(ctx.spool.find().unwrap().is_empty());
    assert_eq!(ctx.room.free().sandboxes, 2);
}

/// Results of a package on the spool, and the record that a restart would go on with.
fn built(ctx: &Arc<Context>) -> Attempt {
    let mut attempt = claimed(ctx, Phase::Building);
    attempt.record.packages = vec![PackageReport {
        position: 0,
        source: "pkg-1-1.src.rpm".parse().unwrap(),
        outcome: samples::finished().outcome,
        files: vec![ManifestFile {
            name: "build.log".parse().unwrap(),
            size: 5,
            sha256: "digest".to_owned(),
        }],
    }];
    attempt
}

#[tokio::test]
async fn that_results_are_on_the_spool_is_written_again_until_it_is_and_nothing_is_taken_meanwhile()
{
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let mut attempt = built(&ctx);
    let folder = attempt.folder.clone();
    // A folder in the way stands for the full disk.
    let in_the_way = folder.log().with_file_name("attempt.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    let recording = tokio::spawn(async move {
        build_packages::record_spooled(&mut attempt).await;
        attempt
    });
    until("the first try", || ctx.disk.shortage().is_some()).await;
    assert_eq!(folder.read().unwrap().phase, Phase::Building);
    assert_eq!(ctx.room.free().sandboxes, 0);
    std::fs::remove_dir(&in_the_way).unwrap();
    let attempt = recording.await.unwrap();
    assert_eq!(folder.read().unwrap().phase, Phase::Spooled);
    assert_eq!(attempt.record.phase, Phase::Spooled);
}

#[tokio::test]
async fn work_that_is_done_goes_on_although_a_restart_would_not_find_it() {
    let identity = tempfile::tempdir().unwrap();
    let fake = FakeFrontend::start().await;
    let ctx = context(&fake, identity.path()).await;
    let mut attempt = built(&ctx);
    std::fs::create_dir(attempt.folder.log().with_file_name("attempt.tmp")).unwrap();
    attempt.running.cancel();
    build_packages::record_spooled(&mut attempt).await;
    assert_eq!(attempt.record.phase, Phase::Spooled);
    assert!(ctx.registry.statuses()[0].phase == Phase::Spooled);
}
