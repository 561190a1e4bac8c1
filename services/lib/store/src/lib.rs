//! The store: everything that Millrace remembers, in PostgreSQL; the only crate that knows sqlx. Its transactions
//! guarantee that no task is lost and no end of an attempt counts twice.
#![doc = include_str!("../README.md")]

mod attempts;
mod builders;
mod builds;
mod chroots;
mod config;
mod database;
mod error;
mod legacy;
mod notify;
mod outbox;
mod parked;
mod periodic;
mod projects;
mod retention;
mod row;
mod scheduler;
mod stats;
mod testing;
mod wait_reasons;

pub use attempts::accept::{Acceptance, Finished, FinishedPackage};
pub use attempts::claim::{ClaimInput, ClaimOutcome};
pub use attempts::expire::{SweepConfig, Swept};
pub use attempts::finished_packages::FinishedEarlier;
pub use attempts::heartbeat::{Heartbeat, HeartbeatVerdict, HeldAttempt};
pub use attempts::raise_limit::{Raise, may_be_raised};
pub use attempts::uploads::{FileKey, LogAppend, UploadedFile};
pub use builders::availability::Availability;
pub use builders::blockers::{Blockers, DiskShort};
pub use builders::registry::{BuilderRow, BuilderView, Enrolment, NewBuilder};
pub use builds::cancel::CancelResult;
pub use builds::read::ListQuery;
pub use builds::submit::{NewBuild, NewSource, Submission, SubmissionKey, SubmitRefused};
pub use builds::views::{
    AttemptLimits, AttemptView, BuildView, BuilderRef, FileView, PackageView, SourcePlace,
    SourceView, TaskView,
};
pub use chroots::{
    ChrootAdded, ChrootDef, ChrootRow, ImageReport, ImageStanding, ImageView, WantedImage,
};
pub use config::StoreConfig;
pub use database::Store;
pub use error::StoreError;
pub use legacy::claim::Fetch;
pub use legacy::expire::PollerSwept;
pub use legacy::finish::UnverifiedSuccess;
pub use legacy::import::types::{Imported, ImportedBuild, ImportedProject};
pub use legacy::inspect::Owned;
pub use legacy::list::{LegacyBuild, LegacyProject};
pub use legacy::pollers::{NewPoller, PollerCaller, PollerView};
pub use legacy::types::{PollerReport, Reported};
pub use notify::Notifications;
pub use outbox::OutboxEntry;
pub use parked::ParkedMessage;
pub use projects::defaults::ProjectRow;
pub use projects::settings::ProjectView;
pub use retention::{Deleted, Retention, UncleanedAttempt};
pub use scheduler::reservations::{Reservation, ReservationChanges, ReserveConfig};
pub use scheduler::types::{Release, ReleaseConfig, ReleasedTask};
pub use stats::Counts;
pub use testing::{TestDatabase, backlog::Backlog, inspector::Inspector};
pub use wait_reasons::estimate::StartEstimate;
pub use wait_reasons::facts::{BakeWait, HoldReason, WaitFacts};
