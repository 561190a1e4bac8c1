//! The running builder: takes an identity, tests the engine, enrols at the frontend, goes on with the attempts in its
//! spool, and then takes jobs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use millrace_bus::{Bus, BusConfig, Topology};
use millrace_chassis::{CancellationToken, FetchLimits, Fetcher, Guard, Lifecycle, Shutdown};
use millrace_domain::MemoryClasses;
use millrace_wire::{EnrolRequest, Enrolled};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

use crate::attempt::recover::{adopt, recover};
use crate::attempt_registry::AttemptRegistry;
use crate::bake;
use crate::config::Config;
use crate::config::bake::BakeSettings;
use crate::config::sandbox::Offer;
use crate::context::Context;
use crate::engine::container_cleanup;
use crate::engine::missing_images;
use crate::engine::missing_images::MissingImages;
use crate::engine::prepare::{self, ReadyEngine};
use crate::engine::room::Room;
use crate::engine::self_test;
use crate::engine::self_test::SelfTests;
use crate::frontend::client::FrontendClient;
use crate::frontend::session::{EnrolError, Enrolment, Session};
use crate::health_file::StatusFile;
use crate::heartbeat::Heartbeat;
use crate::jobs::consumer::JobConsumers;
use crate::jobs::control;
use crate::spool::Spool;
use crate::spool::disk_space;
use crate::spool::disk_space::SpoolSpace;
use crate::spool::identity::Identity;

/// The time for handing back attempts, from the end of finishing until everything is dropped.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(20);
/// How long a builder that hands back waits for frontend and broker; what is left then stays in the spool for the next
/// start.
const LEAVE_AFTER: Duration = Duration::from_secs(8);
/// Files that are uploaded at once, over all attempts.
const UPLOADS: usize = 8;

/// Runs the builder until it is stopped.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let drain = Duration::from_secs(config.drain_seconds.into());
    let lifecycle = Lifecycle::new(Some(drain))
        .context("cannot catch signals")?
        .handing_back_within(HAND_BACK_WITHIN);
    let shutdown = lifecycle.shutdown();
    let amqp = BusConfig::new(config.amqp_url()?, format!("builder {}", config.name()))
        .context("MILLRACE_AMQP_URL cannot be used")?;
    config.enrol_token()?;
    let identity = Arc::new(Identity::acquire(&config.spool_dir)?);
    tracing::info!(builder.id = %identity.id(), adopted = identity.adopted(), "this builder's identity");
    let ready = prepare::prepare(config, identity.id()).await?;
    let offer = prepare::offer(config, &ready.info);
    let bakes = config.bake.settings(&ready.info, offer);
    let session = session(config, &identity, &ready, offer)?;
    let enrolled = match enrol(&session, &shutdown).await {
        Ok(enrolled) => enrolled,
        Err(EnrolError::Stopped) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error.into()),
    };
    let frontend = FrontendClient::new(session);
    let bus = Bus::start(amqp, Topology::builder(identity.id()));
    let parts = Parts {
        identity: &identity,
        ready,
        offer,
        frontend,
        bus: &bus,
        shutdown,
    };
    let ctx = context(config, parts)?;
    resume_spool(&ctx).await?;
    let running = Running {
        ctx,
        bus: bus.clone(),
        bakes,
        enrolled,
    };
    let code = serve(lifecycle, config, running).await?;
    bus.close().await;
    // The identity is free for the next builder only now.
    drop(identity);
    Ok(code)
}

/// Enrols. The lifecycle handles signals only once it runs, so a signal that comes while this waits for the frontend is
/// handled here.
async fn enrol(session: &Session, shutdown: &Shutdown) -> Result<Enrolled, EnrolError> {
    let interrupt = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            },
            // Cannot happen: the lifecycle has caught the same signals a moment ago.
            Err(_) => std::future::pending().await,
        }
    };
    let enrolled = tokio::select! {
        enrolled = session.enrol(shutdown) => enrolled?,
        () = interrupt => return Err(EnrolError::Stopped),
    };
    tracing::info!(
        heartbeat_seconds = enrolled.heartbeat_seconds,
        lease_seconds = enrolled.lease_seconds,
        "enrolled"
    );
    Ok(enrolled)
}

/// The session of a builder that is about to enrol with this offer.
fn session(
    config: &Config,
    identity: &Arc<Identity>,
    ready: &ReadyEngine,
    offer: Offer,
) -> anyhow::Result<Session> {
    let token_store = Arc::clone(identity);
    let enrolment = Enrolment {
        url: config.frontend_url.clone(),
        enrol_token: config.enrol_token()?.clone(),
        offer: EnrolRequest {
            renewal: false,
            builder_id: identity.id(),
            name: config.name(),
            previous_token: identity
                .token()
                .context("cannot read the builder's token")?,
            engine_id: ready.info.id.clone(),
            engine_budget_mib: offer.engine_budget_mib,
            archs: archs(),
            memory_mib: offer.memory_mib,
            sandboxes: offer.sandboxes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        store_token: Box::new(move |token| token_store.store_token(token)),
        folder: identity.folder().display().to_string(),
    };
    Ok(Session::new(enrolment)?)
}

/// The host's own architecture, as chroot names spell it.
fn archs() -> Vec<String> {
    let arch = match std::env::consts::ARCH {
        "x86" => "i386",
        "powerpc64" => "ppc64le",
        arch => arch,
    };
    vec![arch.to_owned()]
}

/// What the [`Context`] is made of, each part started or connected already.
struct Parts<'a> {
    identity: &'a Identity,
    ready: ReadyEngine,
    offer: Offer,
    frontend: FrontendClient,
    bus: &'a Bus,
    shutdown: Shutdown,
}

fn context(config: &Config, parts: Parts<'_>) -> anyhow::Result<Arc<Context>> {
    let Parts {
        identity,
        ready,
        offer,
        frontend,
        bus,
        shutdown,
    } = parts;
    let limits = FetchLimits {
        max_bytes: config.max_source_bytes,
        ..FetchLimits::default()
    };
    let fetcher = Fetcher::new(Guard::new(config.fetch.fetch_allow.clone()), limits)?;
    let room = Room::new(offer.memory_mib, offer.sandboxes);
    let heartbeat_wake = Arc::new(Notify::new());
    Ok(Arc::new(Context {
        builder: identity.id(),
        name: config.name(),
        sandboxes: ready.settings,
        runtime: ready.runtime,
        frontend,
        publisher: bus.publisher(),
        fetcher,
        fetch_retry_time: Duration::from_secs(config.fetch_retry_seconds.into()),
        spool: Spool::open(identity.folder()).context("cannot open the spool")?,
        disk: SpoolSpace::new(
            identity.folder(),
            config.spool_floor_mb,
            &room,
            &heartbeat_wake,
        ),
        missing_images: MissingImages::default(),
        spool_wait_limit: Duration::from_secs(config.spool_wait_seconds.into()),
        room,
        registry: AttemptRegistry::default(),
        self_tests: SelfTests::default(),
        heartbeat_wake,
        uploads: Semaphore::new(UPLOADS),
        leaving: leave_in_time(&shutdown),
        shutdown,
    }))
}

/// A token that is cancelled [`LEAVE_AFTER`] after handing back begins, or at once when everything is to be dropped.
fn leave_in_time(shutdown: &Shutdown) -> CancellationToken {
    let leaving = shutdown.hard().child_token();
    let (token, shutdown) = (leaving.clone(), shutdown.clone());
    tokio::spawn(async move {
        shutdown.handing_back().await;
        tokio::time::sleep(LEAVE_AFTER).await;
        token.cancel();
    });
    leaving
}

/// Removes the containers that an earlier process left running, and goes on with the attempts in its spool.
async fn resume_spool(ctx: &Arc<Context>) -> anyhow::Result<()> {
    container_cleanup::remove_own(&ctx.runtime, ctx.builder).await;
    let found = ctx.spool.find().context("cannot read the spool")?;
    for attempt in found.into_iter().filter_map(|found| adopt(ctx, found)) {
        ctx.shutdown.tracker().spawn(recover(attempt));
    }
    Ok(())
}

/// What the loops of an enrolled builder run with.
struct Running {
    ctx: Arc<Context>,
    bus: Bus,
    bakes: BakeSettings,
    enrolled: Enrolled,
}

/// Starts every loop of the builder and runs them until the stop.
async fn serve(
    mut lifecycle: Lifecycle,
    config: &Config,
    running: Running,
) -> anyhow::Result<ExitCode> {
    let Running {
        ctx,
        bus,
        bakes,
        enrolled,
    } = running;
    let classes = MemoryClasses::from_upper_ends(&enrolled.memory_classes_gib)
        .context("the frontend's memory classes do not rise")?;
    let period = Duration::from_secs(enrolled.heartbeat_seconds.into());
    let status = StatusFile::new(&config.status_file);
    let heartbeat = Heartbeat::new(Arc::clone(&ctx), bus.clone(), period, status);
    let consumers = JobConsumers::new(Arc::clone(&ctx), &bus, &archs(), &classes);
    // Both go on until the last heartbeat: during a stop running attempts are still finished.
    let last_heartbeat = CancellationToken::new();
    let control = control::run(Arc::clone(&ctx), bus.clone(), last_heartbeat.clone());
    let disk = disk_space::run(ctx.disk.clone(), last_heartbeat.clone());
    lifecycle.spawn("heartbeat", async move {
        let _guard = last_heartbeat.drop_guard();
        heartbeat.run().await
    });
    lifecycle.spawn("control", control);
    lifecycle.spawn("disk", disk);
    lifecycle.spawn(
        "images",
        missing_images::run(
            ctx.missing_images.clone(),
            ctx.runtime.clone(),
            Arc::clone(&ctx.heartbeat_wake),
            ctx.shutdown.clone(),
        ),
    );
    lifecycle.spawn("bake", bake::run(Arc::clone(&ctx), bakes));
    lifecycle.spawn(
        "sweeper",
        container_cleanup::run(ctx.runtime.clone(), ctx.shutdown.clone()),
    );
    lifecycle.spawn("intake", consumers.run());
    lifecycle.spawn(
        "self-test",
        self_test::run(
            ctx.self_tests.clone(),
            config.clone(),
            ctx.builder,
            Arc::clone(&ctx.heartbeat_wake),
            ctx.shutdown.clone(),
        ),
    );
    let free = ctx.room.free();
    tracing::info!(
        memory_mib = free.mib,
        sandboxes = free.sandboxes,
        "ready for jobs"
    );
    Ok(lifecycle.run().await)
}
