//! One connection that comes back by itself: connect, declare, watch, and all over again.
//!
//! lapin's own recovery stays off: it does not reopen channels that the broker closed, and a consumer of such a
//! channel hangs for ever. So a connection that ended is replaced as a whole, and whoever used it notices by the
//! error of its channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use millrace_domain::Backoff;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::config::BusConfig;
use crate::fault::{Fault, within};
use crate::topology::Topology;

/// A connection that lived this long was a good one: the next back-off begins anew.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// lapin sometimes tells of no event though the socket is gone, so its status is looked at, too.
const LOOK: Duration = Duration::from_secs(1);
/// At most one declaration in this time, however many miss a queue at once.
const REDECLARE_PAUSE: Duration = Duration::from_secs(1);

/// How one of the two connections is.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// Connected, and the role's topology is declared.
    Up,
    /// Not connected, since that moment.
    Down {
        /// Since when.
        since: Instant,
        /// What went wrong last.
        reason: Arc<str>,
    },
    /// Connected, but the broker takes no messages (an alarm): down for publishing.
    Blocked {
        /// Since when.
        since: Instant,
        /// What the broker says.
        reason: Arc<str>,
    },
}

impl LinkState {
    /// Whether the connection can be used for what it is there for.
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    fn down(reason: impl Into<Arc<str>>) -> Self {
        Self::Down {
            since: Instant::now(),
            reason: reason.into(),
        }
    }
}

/// A connection of one generation.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) generation: u64,
    connection: Arc<Connection>,
}

/// The handle to a supervised connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    config: BusConfig,
    name: &'static str,
    topology: Topology,
    state: watch::Sender<LinkState>,
    session: watch::Sender<Option<Session>>,
    /// The generation that is to be replaced.
    renew: watch::Sender<u64>,
    declared: Mutex<Option<Instant>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Link {
    /// Starts the supervision; `name` tells the two connections of a bus apart.
    pub(crate) fn start(
        config: BusConfig,
        name: &'static str,
        topology: Topology,
        stop: CancellationToken,
    ) -> Self {
        let link = Self(Arc::new(Shared {
            config,
            name,
            topology,
            state: watch::Sender::new(LinkState::down("not connected yet")),
            session: watch::Sender::new(None),
            renew: watch::Sender::new(0),
            declared: Mutex::new(None),
            stop,
            ended: CancellationToken::new(),
        }));
        tokio::spawn(link.clone().supervise());
        link
    }

    pub(crate) fn config(&self) -> &BusConfig {
        &self.0.config
    }

    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.0.state.subscribe()
    }

    pub(crate) fn now(&self) -> LinkState {
        self.0.state.borrow().clone()
    }

    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Pends until the supervision has ended and the connection is closed.
    pub(crate) async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Pends until the connection is up.
    pub(crate) async fn up(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.state().wait_for(LinkState::is_up).await;
    }

    /// The present connection, if there is one.
    pub(crate) fn session(&self) -> Option<Session> {
        self.0.session.borrow().clone()
    }

    /// Opens a channel on the present connection. A broker that does not answer gets a new connection.
    pub(crate) async fn open_channel(&self) -> Result<(Session, Channel), Fault> {
        let session = self
            .session()
            .ok_or_else(|| Fault::Gone(self.reason().to_string()))?;
        let call = session.connection.create_channel();
        match within(self.0.config.rpc_deadline, "channel.open", call).await {
            Ok(channel) => Ok((session, channel)),
            Err(fault) => {
                if matches!(fault, Fault::Silent(..)) {
                    self.renew(session.generation);
                }
                Err(fault)
            }
        }
    }

    /// Why there is no connection.
    pub(crate) fn reason(&self) -> Arc<str> {
        match self.now() {
            LinkState::Up => "the connection has just ended".into(),
            LinkState::Down { reason, .. } | LinkState::Blocked { reason, .. } => reason,
        }
    }

    /// Replaces the connection of this generation because it does not answer any more.
    pub(crate) fn renew(&self, generation: u64) {
        self.0.renew.send_replace(generation);
    }

    /// Declares the topology again: something of it turned out to be missing.
    pub(crate) async fn redeclare(&self) -> Result<(), Fault> {
        let mut declared = self.0.declared.lock().await;
        if declared.is_some_and(|at| at.elapsed() < REDECLARE_PAUSE) {
            return Ok(());
        }
        let (_, channel) = self.open_channel().await?;
        let deadline = self.0.config.rpc_deadline;
        let result = self.0.topology.declare(&channel, deadline).await;
        *declared = Some(Instant::now());
        result
    }

    async fn supervise(self) {
        let mut backoff = Backoff::for_reconnecting();
        let mut generation = 0;
        loop {
            let connected = tokio::select! {
                () = self.0.stop.cancelled() => break,
                connected = self.connect() => connected,
            };
            match connected {
                Ok(connection) => {
                    generation += 1;
                    let began = Instant::now();
                    let reason = self.serve(Arc::new(connection), generation).await;
                    self.set_down(&reason);
                    if began.elapsed() >= GOOD_LIFE {
                        backoff.reset();
                    }
                }
                Err(fault) => self.set_down(&fault.to_string()),
            }
            tokio::select! {
                () = self.0.stop.cancelled() => break,
                () = tokio::time::sleep(backoff.delay(rand::random())) => {}
            }
        }
        self.0
            .state
            .send_replace(LinkState::down("the bus is closed"));
        self.0.ended.cancel();
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let config = &self.0.config;
        let client = format!("millrace {} ({})", config.client, self.0.name);
        let properties = ConnectionProperties::default().with_connection_name(client.into());
        let call = Connection::connect_uri(config.uri.clone(), properties);
        let connection = within(config.rpc_deadline, "connect", call).await?;
        let declared = self.declare_on(&connection).await;
        match declared {
            Ok(()) => Ok(connection),
            Err(fault) => {
                self.close(&connection).await;
                Err(fault)
            }
        }
    }

    async fn declare_on(&self, connection: &Connection) -> Result<(), Fault> {
        let deadline = self.0.config.rpc_deadline;
        let channel = within(deadline, "channel.open", connection.create_channel()).await?;
        self.0.topology.declare(&channel, deadline).await
    }

    /// Publishes the connection, watches it until it ends, and says why it did.
    async fn serve(&self, connection: Arc<Connection>, generation: u64) -> String {
        let mut renew = self.0.renew.subscribe();
        let mut events = Box::pin(connection.events_listener());
        self.0.session.send_replace(Some(Session {
            generation,
            connection: connection.clone(),
        }));
        if connection.status().blocked() {
            self.set_blocked("an alarm on the broker");
        } else {
            self.0.state.send_replace(LinkState::Up);
        }
        tracing::info!(link = self.0.name, "connected to the broker");
        let mut look = tokio::time::interval(LOOK);
        let reason = loop {
            tokio::select! {
                () = self.0.stop.cancelled() => break "the bus is closed".to_owned(),
                _ = renew.wait_for(|asked| *asked == generation) => break "the broker stopped answering".to_owned(),
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.set_blocked(&reason),
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(link = self.0.name, "the broker takes messages again");
                        self.0.state.send_replace(LinkState::Up);
                    }
                    // Errors of single channels are told here, too; they do not end the connection.
                    Some(Event::Error(error)) if !connection.status().connected() => {
                        break error.to_string();
                    }
                    Some(_) => {}
                    None => break "the connection ended".to_owned(),
                },
                _ = look.tick() => if !connection.status().connected() {
                    break "the connection ended".to_owned();
                },
            }
        };
        self.0.session.send_replace(None);
        self.close(&connection).await;
        reason
    }

    async fn close(&self, connection: &Connection) {
        if connection.status().connected() {
            let call = connection.close(200, "bye".into());
            if let Err(fault) = within(self.0.config.rpc_deadline, "connection.close", call).await {
                tracing::debug!(link = self.0.name, %fault, "the connection did not close cleanly");
            }
        }
    }

    fn set_blocked(&self, reason: &str) {
        tracing::warn!(
            link = self.0.name,
            reason,
            "the broker takes no messages for now"
        );
        self.0.state.send_replace(LinkState::Blocked {
            since: Instant::now(),
            reason: reason.into(),
        });
    }

    /// Keeps the moment at which the outage began, and says each reason once.
    fn set_down(&self, reason: &str) {
        let known = self.0.state.send_if_modified(|state| match state {
            LinkState::Down { reason: old, .. } if **old == *reason => false,
            LinkState::Down { reason: old, .. } => {
                *old = reason.into();
                true
            }
            LinkState::Up | LinkState::Blocked { .. } => {
                *state = LinkState::down(reason);
                true
            }
        });
        if known && !self.0.stop.is_cancelled() {
            tracing::warn!(
                link = self.0.name,
                reason,
                "no connection to the broker; trying again"
            );
        }
    }
}
