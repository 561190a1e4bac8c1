//! What all HTTP handlers and background loops share. The folder's files are its parts; `AppState` holds them and the
//! few actions that need several.

pub(crate) mod broker_health;
pub(crate) mod builder_tokens;
pub(crate) mod hint_queue;
pub(crate) mod lease_tokens;
pub(crate) mod log_followers;
pub(crate) mod login_throttle;
pub(crate) mod outage;
pub(crate) mod results_full;
pub(crate) mod seal_queue;
pub(crate) mod shared_list;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_bus::Bus;
use millrace_chassis::{Metrics, Shutdown};
use millrace_domain::{AttemptId, TokenHash};
use millrace_results::{ResultError, ResultStore};
use millrace_store::Store;
use tokio::sync::{Notify, watch};

use crate::config::settings::Settings;
use crate::state::builder_tokens::BuilderTokens;
use crate::state::hint_queue::Hints;
use crate::state::lease_tokens::LeaseKey;
use crate::state::log_followers::LogFollowers;
use crate::state::login_throttle::LoginThrottle;
use crate::state::outage::Outage;
use crate::state::results_full::ResultsFull;
use crate::state::seal_queue::Sealer;
use crate::state::shared_list::SharedList;

/// A handle to [`Shared`]; clones refer to the same one.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// The shared parts of one frontend process.
pub struct Shared {
    /// The settings, checked at the start; they never change.
    pub settings: Settings,
    /// PostgreSQL, which decides everything: tasks, attempts, leases.
    pub store: Store,
    /// The result store: sources, logs and result files.
    pub results: ResultStore,
    /// RabbitMQ; reconnects without help.
    pub bus: Bus,
    /// Digests and keys by which callers are known.
    pub secrets: Secrets,
    /// Cache of builder tokens, so that heartbeats and claims need not look them up.
    pub builder_tokens: BuilderTokens,
    /// Wakes the relay after a commit that may have given it work.
    pub relay_wake: Notify,
    /// Wakes the result checker when a poller has reported a success.
    pub result_checker_wake: Notify,
    /// The open legacy list, read once for all who ask at the same time.
    pub legacy_list: SharedList,
    /// Wrong passwords of pollers, by address.
    pub login_throttle: LoginThrottle,
    /// Whether the last release left tasks behind because no builder had room; only then does room that becomes free wake the
    /// relay.
    pub held_back: AtomicBool,
    /// Sends hints to builders.
    pub hints: Hints,
    /// Sends logs to be sealed.
    pub sealer: Sealer,
    /// Wakes those who follow a log.
    pub log_followers: LogFollowers,
    /// Since when the database has not answered.
    pub database_outage: Outage,
    /// Since when the broker has not confirmed orders; this shows long before its connection is given up.
    pub broker_outage: Outage,
    /// Whether the result store refuses uploads because it is full.
    pub results_full: ResultsFull,
    /// Whether the start has succeeded.
    pub ready: watch::Sender<Readiness>,
    /// Counters of this process; none in tests.
    pub metrics: Option<Metrics>,
    /// Tells when the process is to stop.
    pub shutdown: Shutdown,
}

/// How far the start has come; `background/startup.rs` sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Not finished, for this reason.
    Starting(String),
    /// The database was reached, its schema is up to date, and the defaults are stored.
    Ready,
}

/// What authenticates callers, as digests and a derived key, so that no token stays in memory beside the settings.
pub struct Secrets {
    /// Digest of `MILLRACE_TOKEN`, which every write needs.
    pub admin: TokenHash,
    /// Digest of `MILLRACE_ENROL_TOKEN`, with which builders enrol.
    pub enrol: TokenHash,
    /// Derives the tokens of leases and of builders that enrol again.
    pub lease_key: LeaseKey,
}

impl AppState {
    /// A handle to these parts.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Wakes the relay after room has become free, where tasks wait for room.
    pub fn wake_relay_if_held_back(&self) {
        if self.held_back.load(Ordering::Acquire) {
            self.relay_wake.notify_one();
        }
    }

    /// Ends the log of an attempt that was taken from its builder: queues it to be sealed and wakes its followers.
    pub async fn end_log(&self, attempt: AttemptId) {
        self.sealer.seal(attempt).await;
        self.log_followers.notify(attempt);
    }

    /// Records whether an upload of `bytes` was refused because the result store is full (shown in the status), and
    /// passes the result on.
    pub fn note_upload_result<T>(
        &self,
        bytes: u64,
        result: Result<T, ResultError>,
    ) -> Result<T, ResultError> {
        match result {
            Err(ResultError::Full) => self.results_full.note_refused(bytes),
            Ok(_) if self.results_full.note_stored(bytes) => {
                tracing::info!("the result store has space again");
            }
            _ => {}
        }
        result
    }

    /// Waits until the start has succeeded; false when the frontend is to stop first.
    pub async fn wait_ready(&self) -> bool {
        let mut ready = self.ready.subscribe();
        tokio::select! {
            changed = ready.wait_for(|state| *state == Readiness::Ready) => changed.is_ok(),
            () = self.shutdown.stopping() => false,
        }
    }
}

impl Secrets {
    /// The digests and the key that follow from the settings' tokens.
    pub fn derive(settings: &Settings) -> Self {
        Self {
            admin: settings.admin_token.hash(),
            enrol: settings.enrol_token.hash(),
            lease_key: LeaseKey::derive(&settings.admin_token),
        }
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
