//! The frontend put together: built from settings, then spawned as parts of a process. Tests build it the same way,
//! on port 0.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use millrace_bus::{Bus, BusConfig, Topology};
use millrace_chassis::{Lifecycle, Metrics, Shutdown};
use millrace_results::ResultStore;
use millrace_store::{ChrootDef, Store, StoreConfig};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::auth::BuilderCache;
use crate::full_store::FullStore;
use crate::hints::{HintQueue, Hints};
use crate::legacy::{Guesses, SharedList, run_believer};
use crate::log_watch::LogWatch;
use crate::outage::Outage;
use crate::sealer::{SealQueue, Sealer};
use crate::server::{self, ServerLimits};
use crate::settings::Settings;
use crate::state::{AppState, Readiness, Secrets, Shared};
use crate::{boot, chroots, hints, http, janitor, listener, parker, relay, sealer, sweeper};

/// How long a request waits for a connection to the database.
const ACQUIRE: Duration = Duration::from_secs(2);

/// A frontend that listens and has not begun to serve.
pub struct Application {
    state: AppState,
    listener: TcpListener,
    chroots: Vec<ChrootDef>,
    hint_queue: HintQueue,
    seal_queue: SealQueue,
}

impl Application {
    /// Opens what is on this machine; database and broker may come later.
    pub async fn build(
        settings: Settings,
        metrics: Option<Metrics>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let chroots = if let Some(path) = &settings.config.chroots_file {
            chroots::read(path)?
        } else {
            tracing::warn!("MILLRACE_CHROOTS_FILE is not set: no build can be submitted");
            Vec::new()
        };
        let results = ResultStore::open(&settings.results_url).await?;
        let mut store = StoreConfig::new(settings.database_url.clone());
        store.max_connections = settings.config.database_connections;
        store.acquire_timeout = ACQUIRE;
        let listen = settings.config.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let bus = BusConfig::new(&settings.amqp_url, "frontend")?;
        let archs = chroots.iter().map(|chroot| chroot.name.arch());
        let topology = Topology::frontend(archs, &settings.memory_classes);
        let (hints, hint_queue) = Hints::channel();
        let (sealer, seal_queue) = Sealer::channel();
        let state = AppState::new(Shared {
            store: Store::connect(&store)?,
            results,
            bus: Bus::start(bus, topology),
            secrets: Secrets::derive(&settings),
            builders: BuilderCache::default(),
            relay_wake: Notify::new(),
            believer_wake: Notify::new(),
            waiting: SharedList::default(),
            guesses: Guesses::default(),
            held_back: AtomicBool::new(true),
            hints,
            sealer,
            logs: LogWatch::default(),
            database_away: Outage::default(),
            broker_away: Outage::default(),
            results_full: FullStore::default(),
            ready: watch::Sender::new(Readiness::Starting("not begun".to_owned())),
            metrics,
            shutdown,
            settings,
        });
        Ok(Self {
            state,
            listener,
            chroots,
            hint_queue,
            seal_queue,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts all parts.
    pub fn spawn(self, lifecycle: &mut Lifecycle) {
        let state = self.state;
        if let Some(metrics) = state.metrics.clone() {
            let shutdown = state.shutdown.clone();
            lifecycle.spawn("metrics", async move {
                metrics.upkeep(shutdown).await;
                Ok::<(), anyhow::Error>(())
            });
        }
        lifecycle.spawn("http", serve_http(state.clone(), self.listener));
        lifecycle.spawn("boot", boot::run(state.clone(), self.chroots));
        lifecycle.spawn("relay", relay::run(state.clone()));
        lifecycle.spawn("listener", listener::run(state.clone()));
        lifecycle.spawn("parker", parker::run(state.clone()));
        lifecycle.spawn("sweeper", sweeper::run(state.clone()));
        lifecycle.spawn("believer", run_believer(state.clone()));
        lifecycle.spawn("janitor", janitor::run(state.clone()));
        lifecycle.spawn("sealer", sealer::run(state.clone(), self.seal_queue));
        lifecycle.spawn("hints", hints::run(state, self.hint_queue));
    }
}

async fn serve_http(state: AppState, listener: TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let config = &state.settings.config;
    let limits = ServerLimits {
        connections: config.max_connections as usize,
        header: Duration::from_secs(config.header_seconds.into()),
        proxies: config.trusted_proxies.clone(),
    };
    let shutdown = state.shutdown.clone();
    tracing::info!(%address, "listening");
    server::serve(listener, http::router(state), limits, shutdown).await;
    Ok(())
}
