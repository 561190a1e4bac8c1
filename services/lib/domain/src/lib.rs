//! What the words of Millrace mean. No IO happens here: every type is valid by having been built.
#![doc = include_str!("../README.md")]

mod backoff;
mod chroot;
mod clock;
mod ids;
mod limits;
mod name;
mod outcome;
mod poller;
mod state;
mod suggest;
mod token;
mod weblink;

pub use backoff::Backoff;
pub use chroot::{ChrootError, ChrootName, require_one_release};
pub use clock::{Clock, SystemClock};
pub use ids::{AttemptId, BuildId, BuilderId, PollerId, ProjectId, TaskId};
pub use limits::{LimitError, Limits, LimitsPolicy, MemoryClass, MemoryClasses};
pub use name::{FileName, IdempotencyKey, ImageName, Name, NameError};
pub use outcome::{
    FirstError, Limit, LimitName, Origin, Outcome, OutcomeKind, Stage, StageTime, Unit,
};
pub use poller::{Fence, PollerMode};
pub use state::{AttemptState, BuildState, Phase, Priority, TaskState, UnknownWord};
pub use suggest::{EarlierUse, suggest};
pub use token::{Token, TokenHash};
pub use weblink::{LinkError, RepositoryUrl, SourceUrl};
