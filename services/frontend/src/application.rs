//! Assembles the frontend: builds all parts from the settings, then spawns them as parts of a process. Tests build it
//! the same way, on port 0.

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

use crate::background::hints;
use crate::background::janitor;
use crate::background::log_sealer;
use crate::background::parked_listener;
use crate::background::relay;
use crate::background::report_listener;
use crate::background::result_checker;
use crate::background::startup;
use crate::background::sweeper;
use crate::config::chroots_file;
use crate::config::settings::Settings;
use crate::http::router;
use crate::http::server::{self, ServerLimits};
use crate::state::builder_tokens::BuilderTokens;
use crate::state::hint_queue::{HintQueue, Hints};
use crate::state::log_followers::LogFollowers;
use crate::state::login_throttle::LoginThrottle;
use crate::state::outage::Outage;
use crate::state::results_full::ResultsFull;
use crate::state::seal_queue::{SealQueue, Sealer};
use crate::state::shared_list::SharedList;
use crate::state::{AppState, Readiness, Secrets, Shared};

/// How long a request waits for a free connection to the database.
const ACQUIRE: Duration = Duration::from_secs(2);

/// A frontend that is bound to its port and does not answer yet.
pub struct Application {
    state: AppState,
    listener: TcpListener,
    chroots: Vec<ChrootDef>,
    hint_queue: HintQueue,
    seal_queue: SealQueue,
}

impl Application {
    /// Binds the port and opens the result store. Database and broker need not answer yet.
    pub async fn build(
        settings: Settings,
        metrics: Option<Metrics>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let chroots = if let Some(path) = &settings.config.chroots_file {
            chroots_file::read(path)?
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
            builder_tokens: BuilderTokens::default(),
            relay_wake: Notify::new(),
            result_checker_wake: Notify::new(),
            legacy_list: SharedList::default(),
            login_throttle: LoginThrottle::default(),
            held_back: AtomicBool::new(true),
            hints,
            sealer,
            log_followers: LogFollowers::default(),
            database_outage: Outage::default(),
            broker_outage: Outage::default(),
            results_full: ResultsFull::default(),
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

    /// The address that it is bound to, with the port that was chosen for port 0.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts the HTTP server and all background loops.
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
        lifecycle.spawn("startup", startup::run(state.clone(), self.chroots));
        lifecycle.spawn("relay", relay::run(state.clone()));
        lifecycle.spawn("report_listener", report_listener::run(state.clone()));
        lifecycle.spawn("parked_listener", parked_listener::run(state.clone()));
        lifecycle.spawn("sweeper", sweeper::run(state.clone()));
        lifecycle.spawn("result_checker", result_checker::run(state.clone()));
        lifecycle.spawn("janitor", janitor::run(state.clone()));
        lifecycle.spawn(
            "log_sealer",
            log_sealer::run(state.clone(), self.seal_queue),
        );
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
    server::serve(listener, router(state), limits, shutdown).await;
    Ok(())
}
