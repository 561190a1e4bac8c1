//! Why a task waits, as the API shows it; `wait_reason` finds out which reason holds.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a task waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitReason {
    /// The reason as a word for scripts.
    pub reason: WaitWord,
    /// The reason as a sentence.
    pub message: String,
    /// Waiting tasks that the scheduler would release first, by their priorities as submitted.
    pub ahead: u64,
    /// Place among waiting tasks, 1 being the next; null when the task is released, or cannot be released until
    /// something else has happened.
    pub position: Option<u64>,
    /// When the task is expected to start, estimated from how long tasks took lately; null when there is no estimate.
    pub estimated_start: Option<DateTime<Utc>>,
    /// The task is not released before this time, because an earlier attempt was given back; null when there is no such
    /// delay.
    pub not_before: Option<DateTime<Utc>>,
}

/// Reasons to wait. When several hold, the first in this order is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitWord {
    /// Routed to a poller of 2012, which has not asked for it yet.
    Poller,
    /// Imported from another site and not released.
    Imported,
    /// No live builder offers the architecture.
    NoBuilder,
    /// No live builder offers as much memory as the task needs.
    TooLarge,
    /// All builders that could run it are drained, or set aside because of repeated faults.
    BuildersDrained,
    /// Builders that are large enough are short of disk space.
    ShortOfDisk,
    /// No builder that is large enough has the image of its chroot.
    ImageMissing,
    /// The image of its chroot is being baked, or its bake comes next.
    ChrootBaking,
    /// The bake of the image of its chroot failed and is retried.
    BakeFailed,
    /// RabbitMQ is unreachable; nothing is released until it is back.
    BrokerAway,
    /// Released; its job message is on the way to RabbitMQ.
    OnItsWay,
    /// Released; its job message waits in a job queue for a builder to take it.
    Released,
    /// An earlier attempt was given back, and the next one is delayed.
    BackOff,
    /// The owner has as many tasks under way as allowed.
    OwnerLimit,
    /// Other tasks come first.
    Behind,
    /// Next in order; no builder has room.
    BuildersFull,
}

impl WaitWord {
    /// Whether the task has a place in the scheduler's order: it is not released yet, and nothing but order, time and
    /// the broker stands between it and a release.
    pub fn has_position(self) -> bool {
        match self {
            Self::BrokerAway
            | Self::BackOff
            | Self::OwnerLimit
            | Self::Behind
            | Self::BuildersFull => true,
            Self::Poller
            | Self::Imported
            | Self::NoBuilder
            | Self::TooLarge
            | Self::BuildersDrained
            | Self::ShortOfDisk
            | Self::ImageMissing
            | Self::ChrootBaking
            | Self::BakeFailed
            | Self::OnItsWay
            | Self::Released => false,
        }
    }
}
