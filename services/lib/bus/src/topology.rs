//! Every exchange, queue and routing key, and their declaration. Names or arguments are found nowhere else.
//!
//! A queue's arguments cannot be changed once it exists: another value here needs another name, or an operator
//! who deletes the old queue.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use millrace_domain::{BuilderId, MemoryClass, MemoryClasses};

use crate::fault::{Fault, within};

/// Exchange for attempts on offer, routed by architecture and memory class.
const JOBS: &str = "millrace.jobs";
/// Exchange for the reports of builders.
const EVENTS: &str = "millrace.events";
/// Exchange for hints to builders; nothing depends on their arrival.
const CONTROL: &str = "millrace.control";
/// Exchange for messages that consumers parked, and for dead letters.
const PARKED: &str = "millrace.parked";

/// The queue of reports of builders; the frontend consumes it.
pub const EVENTS_QUEUE: &str = "millrace.events.frontend";
/// The queue of parked messages and dead letters; the frontend consumes it.
pub const PARKED_QUEUE: &str = "millrace.parked";

const FINISHED_KEY: &str = "attempt.finished";
const ALL_BUILDERS_KEY: &str = "all";

/// After this many deliveries a message is given up and dead-lettered. Each lost connection and each crash of a
/// consumer costs one.
const DELIVERY_LIMIT: i32 = 20;
/// Hints are repeated by heartbeats, so a builder that does not read loses the oldest.
const CONTROL_QUEUE_LENGTH: i32 = 1000;

/// The name of a builder's own control queue.
pub fn control_queue(id: BuilderId) -> String {
    format!("{CONTROL}.{}", builder_key(id))
}

fn builder_key(id: BuilderId) -> String {
    format!("builder.{id}")
}

/// A job queue: one architecture, one memory class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobRoute {
    /// The architecture, such as `x86_64`.
    pub arch: String,
    /// The memory class's name, such as `2g`.
    pub class: String,
}

impl JobRoute {
    /// The route of a class on an architecture.
    pub fn new(arch: &str, class: &MemoryClass) -> Self {
        Self {
            arch: arch.to_owned(),
            class: class.name.clone(),
        }
    }

    /// The routing key, as it is kept in the outbox.
    pub fn key(&self) -> String {
        self.to_string()
    }

    /// Name of the queue: the exchange's name and the routing key.
    pub fn queue(&self) -> String {
        format!("{JOBS}.{self}")
    }
}

impl fmt::Display for JobRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.arch, self.class)
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the builders that take this kind of job; [`JobRoute::key`].
    Job {
        /// Routing key, as the outbox stores it.
        key: String,
    },
    /// A builder's report to the frontend.
    AttemptFinished,
    /// A hint to one builder.
    Builder(BuilderId),
    /// A hint to all builders.
    AllBuilders,
}

impl From<JobRoute> for Route {
    fn from(route: JobRoute) -> Self {
        Self::Job { key: route.key() }
    }
}

impl Route {
    pub(crate) fn into_address(self) -> Address {
        let (exchange, key) = match self {
            Self::Job { key } => (JOBS, key),
            Self::AttemptFinished => (EVENTS, FINISHED_KEY.to_owned()),
            Self::Builder(id) => (CONTROL, builder_key(id)),
            Self::AllBuilders => (CONTROL, ALL_BUILDERS_KEY.to_owned()),
        };
        Address { exchange, key }
    }
}

/// Exchange and routing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) exchange: &'static str,
    pub(crate) key: String,
}

impl Address {
    /// The address of parked messages; its key names the queue that a message came from.
    pub(crate) fn parked(queue: &str) -> Self {
        Self {
            exchange: PARKED,
            key: queue.to_owned(),
        }
    }
}

/// What a role declares whenever it connects.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    exchanges: &'static [&'static str],
    queues: Vec<QueueSpec>,
    /// Job queues that were added while the process runs; clones share them.
    later: Arc<Mutex<BTreeMap<String, QueueSpec>>>,
}

#[derive(Debug, Clone)]
struct QueueSpec {
    name: String,
    kind: QueueKind,
    exchange: &'static str,
    keys: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum QueueKind {
    /// Durable; what reaches the delivery limit goes to the parked queue.
    Work,
    /// Durable; messages stay until an operator removes them, however often they are delivered.
    Parked,
    /// Exclusive: exists as long as its builder's connection.
    Control,
}

impl Topology {
    /// All exchanges and all queues but the builders' own, for these architectures and classes.
    pub fn frontend<'a>(archs: impl IntoIterator<Item = &'a str>, classes: &MemoryClasses) -> Self {
        let mut queues = vec![
            QueueSpec::new(PARKED_QUEUE, QueueKind::Parked, PARKED, "#"),
            QueueSpec::new(EVENTS_QUEUE, QueueKind::Work, EVENTS, FINISHED_KEY),
        ];
        for arch in archs {
            for class in classes.all() {
                queues.push(QueueSpec::jobs(&JobRoute::new(arch, class)));
            }
        }
        Self {
            exchanges: &[JOBS, EVENTS, CONTROL, PARKED],
            queues,
            ..Self::default()
        }
    }

    /// A builder's control queue. The rest must have been declared by the frontend; until then the bus of a
    /// builder tries again.
    pub fn builder(id: BuilderId) -> Self {
        let mut queue = QueueSpec::new(
            &control_queue(id),
            QueueKind::Control,
            CONTROL,
            &builder_key(id),
        );
        queue.keys.push(ALL_BUILDERS_KEY.to_owned());
        Self {
            exchanges: &[],
            queues: vec![queue],
            ..Self::default()
        }
    }

    /// Adds a job queue, which the next declaration makes; a message that finds no queue causes one.
    pub(crate) fn add_jobs(&self, route: &JobRoute) {
        let spec = QueueSpec::jobs(route);
        if !self.queues.iter().any(|queue| queue.name == spec.name) {
            self.later().insert(spec.name.clone(), spec);
        }
    }

    fn later(&self) -> MutexGuard<'_, BTreeMap<String, QueueSpec>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares nothing: for tools that use existing queues.
    pub fn none() -> Self {
        Self::default()
    }

    /// Declares everything; what exists already with the same properties is left as it is.
    pub(crate) async fn declare(&self, channel: &Channel, deadline: Duration) -> Result<(), Fault> {
        for exchange in self.exchanges {
            let options = ExchangeDeclareOptions {
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            let call = channel.exchange_declare(
                (*exchange).into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            );
            within(deadline, "exchange.declare", call).await?;
        }
        let later: Vec<QueueSpec> = self.later().values().cloned().collect();
        for queue in self.queues.iter().chain(&later) {
            queue.declare(channel, deadline).await?;
        }
        Ok(())
    }
}

impl QueueSpec {
    fn jobs(route: &JobRoute) -> Self {
        Self::new(&route.queue(), QueueKind::Work, JOBS, &route.key())
    }

    fn new(name: &str, kind: QueueKind, exchange: &'static str, key: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            exchange,
            keys: vec![key.to_owned()],
        }
    }

    async fn declare(&self, channel: &Channel, deadline: Duration) -> Result<(), Fault> {
        let name = short(&self.name)?;
        let call = channel.queue_declare(name.clone(), self.kind.options(), self.kind.arguments());
        within(deadline, "queue.declare", call).await?;
        for key in &self.keys {
            let call = channel.queue_bind(
                name.clone(),
                self.exchange.into(),
                short(key)?,
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            within(deadline, "queue.bind", call).await?;
        }
        Ok(())
    }
}

impl QueueKind {
    fn options(self) -> QueueDeclareOptions {
        let own = matches!(self, Self::Control);
        QueueDeclareOptions {
            durable: !own,
            exclusive: own,
            auto_delete: own,
            ..QueueDeclareOptions::default()
        }
    }

    fn arguments(self) -> FieldTable {
        let mut arguments = FieldTable::default();
        let mut set = |name: &str, value: AMQPValue| {
            arguments.insert(name.into(), value);
        };
        let text = |value: &str| AMQPValue::LongString(value.into());
        match self {
            Self::Work => {
                set("x-queue-type", text("quorum"));
                set("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT));
                // At most once, the default. The strategy at-least-once has workers under one supervisor of the whole
                // node, and when it gives up no such queue serves until the node restarts (RabbitMQ issue 16652, seen
                // with 4.0.5). A dead letter that is lost is harmless: the offer runs out, the report comes again.
                set("x-dead-letter-exchange", text(PARKED));
            }
            Self::Parked => {
                set("x-queue-type", text("quorum"));
                set("x-delivery-limit", AMQPValue::LongInt(-1));
            }
            Self::Control => {
                set("x-max-length", AMQPValue::LongInt(CONTROL_QUEUE_LENGTH));
            }
        }
        arguments
    }
}

/// AMQP names end at 255 bytes; lapin's own conversion panics beyond.
pub(crate) fn short(text: &str) -> Result<lapin::types::ShortString, Fault> {
    lapin::types::ShortString::try_new(text)
        .map_err(|_| Fault::Refused("a name is longer than 255 bytes".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_permissions_and_documents_say() {
        let classes = MemoryClasses::default();
        let topology = Topology::frontend(["x86_64"], &classes);
        let names: Vec<&str> = topology.queues.iter().map(|q| q.name.as_str()).collect();
        assert_eq!(
            names[..3],
            [
                "millrace.parked",
                "millrace.events.frontend",
                "millrace.jobs.x86_64.2g"
            ]
        );
        assert_eq!(names.len(), 2 + classes.all().len());
        let id: BuilderId = "00000000-0000-0000-0000-000000000001".parse().unwrap();
        assert_eq!(
            control_queue(id),
            "millrace.control.builder.00000000-0000-0000-0000-000000000001"
        );
    }

    #[test]
    fn no_queue_hangs_on_the_nodes_dead_letter_workers() {
        let arguments = QueueKind::Work.arguments();
        assert!(arguments.contains_key("x-dead-letter-exchange"));
        assert!(!arguments.contains_key("x-dead-letter-strategy"));
    }

    #[test]
    fn a_name_beyond_the_protocols_limit_is_an_error_and_no_panic() {
        assert!(short(&"x".repeat(256)).is_err());
    }
}
