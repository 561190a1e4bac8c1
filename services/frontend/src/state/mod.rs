//! What all handlers and loops share.

pub(crate) mod broker_health;
pub(crate) mod lease_tokens;
pub(crate) mod log_followers;
pub(crate) mod login_throttle;
pub(crate) mod outage;
pub(crate) mod results_full;
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

use crate::background::hints::Hints;
use crate::background::log_sealer::Sealer;
use crate::config::settings::Settings;
use crate::error::ApiError;
use crate::http::auth::BuilderCache;
use crate::state::lease_tokens::LeaseKey;
use crate::state::log_followers::LogWatch;
use crate::state::login_throttle::Guesses;
use crate::state::outage::Outage;
use crate::state::results_full::FullStore;
use crate::state::shared_list::SharedList;

/// What all handlers and loops share; clones share one.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// The shared parts.
pub struct Shared {
    /// Checked settings.
    pub settings: Settings,
    /// The truth.
    pub store: Store,
    /// Where bytes live.
    pub results: ResultStore,
    /// RabbitMQ.
    pub bus: Bus,
    /// Digests and keys.
    pub secrets: Secrets,
    /// Builders seen lately.
    pub builders: BuilderCache,
    /// Wakes the relay after a commit that may have given it work.
    pub relay_wake: Notify,
    /// Wakes whoever looks for the results of pollers' successes.
    pub believer_wake: Notify,
    /// The list that everyone may read.
    pub waiting: SharedList,
    /// Wrong passwords of pollers.
    pub guesses: Guesses,
    /// Whether tasks wait for room: only then room that becomes free is work for the relay.
    pub held_back: AtomicBool,
    /// Hints to builders on their way out.
    pub hints: Hints,
    /// Logs on their way to be sealed.
    pub sealer: Sealer,
    /// Wakes those who follow a log.
    pub logs: LogWatch,
    /// Since when the database does not answer.
    pub database_away: Outage,
    /// Since when orders meet a broker that does not answer; seen long before its connection is given up.
    pub broker_away: Outage,
    /// Whether the result store refuses uploads for want of room.
    pub results_full: FullStore,
    /// Whether the database was reached and its schema is right.
    pub ready: watch::Sender<Readiness>,
    /// Counters of this process; none in tests.
    pub metrics: Option<Metrics>,
    /// The wish to stop.
    pub shutdown: Shutdown,
}

/// How far the start has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet, for this reason.
    Starting(String),
    /// The schema is there, defaults are stored.
    Ready,
}

/// What authorises, as digests and derived keys.
pub struct Secrets {
    /// Digest of the admin token.
    pub admin: TokenHash,
    /// Digest of the enrolment token.
    pub enrol: TokenHash,
    /// Derives lease tokens.
    pub lease_key: LeaseKey,
}

impl AppState {
    /// Wraps the shared parts.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Wakes the relay where tasks wait for the room that has become free.
    pub fn room_is_free(&self) {
        if self.held_back.load(Ordering::Acquire) {
            self.relay_wake.notify_one();
        }
    }

    /// Has the log of an attempt that was taken back sealed; whoever follows it hears of the end.
    pub async fn end_log(&self, attempt: AttemptId) {
        self.sealer.seal(attempt).await;
        self.logs.tell(attempt);
    }

    /// What the result store answered to an upload of so many bytes; that it is full is remembered for the status.
    pub fn stored<T>(&self, bytes: u64, stored: Result<T, ResultError>) -> Result<T, ResultError> {
        match stored {
            Err(ResultError::Full) => self.results_full.refused(bytes),
            Ok(_) if self.results_full.stored(bytes) => {
                tracing::info!("the result store has room again");
            }
            _ => {}
        }
        stored
    }

    /// An error until the start has succeeded.
    pub fn require_ready(&self) -> Result<(), ApiError> {
        match &*self.ready.borrow() {
            Readiness::Ready => Ok(()),
            Readiness::Starting(reason) => Err(ApiError::Unavailable {
                reason: format!("still starting: {reason}"),
            }),
        }
    }

    /// Pends until the start has succeeded; false when the stop came first.
    pub async fn wait_ready(&self) -> bool {
        let mut ready = self.ready.subscribe();
        tokio::select! {
            changed = ready.wait_for(|state| *state == Readiness::Ready) => changed.is_ok(),
            () = self.shutdown.stopping() => false,
        }
    }
}

impl Secrets {
    /// Derives everything from the settings.
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
