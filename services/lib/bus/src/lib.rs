//! RabbitMQ: the only crate that knows lapin.
//!
//! A [`Bus`] holds two connections and reconnects them, one to publish and one to consume, and declares its role's
//! [`Topology`] whenever it connects. Publishing waits for the broker's confirm and takes a returned message for
//! an error; consuming hands [`Incoming`] to a handler and carries its [`Verdict`] back to the broker.
#![doc = include_str!("../README.md")]

mod bus;
mod config;
mod delivery;
mod error;
mod fault;
mod jobs;
mod link;
mod publish_task;
mod publisher;
mod runner;
mod subscription;
pub mod testing;
mod topology;

pub use bus::Bus;
pub use config::BusConfig;
pub use delivery::{Delivery, Incoming, ParkedOrigin, Verdict};
pub use error::{ConfigError, DeliveryLost, NotUp, PublishError};
pub use jobs::JobConsumer;
pub use link::LinkState;
pub use publisher::{Outgoing, Parking, Publisher};
pub use runner::{ConsumerOptions, run_consumer};
pub use topology::{EVENTS_QUEUE, JobRoute, PARKED_QUEUE, Route, Topology, control_queue};
