//! Identifiers as types, so that a task's number cannot be passed for a build's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[derive(schemars::JsonSchema, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = <$inner as FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A build: one request. The integer that the legacy list shows.
    BuildId(i64)
);
id!(
    /// A task: one build in one chroot.
    TaskId(i64)
);
id!(
    /// A poller of 2012 that is known by name.
    PollerId(i64)
);
id!(
    /// A project: where results of builds are kept together.
    ProjectId(i64)
);
id!(
    /// An attempt of a task. A version 7 UUID; it names the attempt and authorises nothing.
    AttemptId(Uuid)
);
id!(
    /// A builder's identity, which it keeps over restarts.
    BuilderId(Uuid)
);

impl AttemptId {
    /// A new time-ordered id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl BuilderId {
    /// A new random id.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}
