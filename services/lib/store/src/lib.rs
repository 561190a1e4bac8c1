//! PostgreSQL: the only crate that knows sqlx. It keeps the truth, and with it the promises that nothing is
//! lost and nothing happens twice.
#![doc = include_str!("../README.md")]

mod accept;
mod aside;
mod builders;
mod builds;
mod cancel;
mod catalog;
mod choice;
mod chroots;
mod claim;
mod config;
mod deeper;
mod error;
mod finished;
mod hindrance;
mod import;
mod keep;
mod lease;
mod legacy;
mod line;
mod lines;
mod outbox;
mod pace;
mod parked;
mod picture;
mod poller;
mod projects;
mod raise;
mod release;
mod reservation;
mod room;
mod rota;
mod row;
mod silence;
mod stats;
mod store;
mod submit;
mod sweep;
#[cfg(feature = "testing")]
mod testing;
mod transition;
mod turns;
mod usage;
mod views;
mod wait;
mod wakeups;
mod window;

pub use accept::{Acceptance, Finished, FinishedPackage};
pub use aside::Standing;
pub use builders::{BuilderRow, BuilderView, Enrolment, NewBuilder};
pub use builds::ListQuery;
pub use cancel::CancelResult;
pub use catalog::{ChrootDef, ChrootRow, ProjectRow};
pub use chroots::{ChrootAdded, ImageStanding, ImageTold, ImageView, WantedImage};
pub use claim::{ClaimInput, ClaimOutcome};
pub use config::StoreConfig;
pub use error::StoreError;
pub use finished::PackageBefore;
pub use hindrance::{DiskShort, Hindered};
pub use import::{Imported, ImportedBuild, ImportedProject};
pub use keep::{Forgotten, Keeping, Untidy};
pub use lease::{FileKey, Heartbeat, HeldAttempt, LogAppend, UploadedFile, Verdict};
pub use legacy::{LegacyBuild, LegacyProject};
pub use outbox::OutboxEntry;
pub use pace::Pace;
pub use parked::ParkedMessage;
pub use poller::{
    Fetch, NewPoller, Owned, PollerCaller, PollerReport, PollerSwept, PollerView, Reported,
    ToBelieve,
};
pub use projects::ProjectView;
pub use raise::{Raise, may_be_raised};
pub use release::{Release, ReleaseConfig, ReleasedTask};
pub use reservation::{Kept, ReserveConfig, Reserved};
pub use stats::Counts;
pub use store::Store;
pub use submit::{NewBuild, NewSource, Submission, SubmissionKey, SubmitRefused};
pub use sweep::{SweepConfig, Swept};
#[cfg(feature = "testing")]
pub use testing::{Backlog, Look, TestDatabase};
pub use views::{
    AttemptLimits, AttemptView, BuildView, BuilderRef, FileView, PackageView, SourcePlace,
    SourceView, TaskView,
};
pub use wait::{BakeWait, Held, Wait};
pub use wakeups::Wakeups;
