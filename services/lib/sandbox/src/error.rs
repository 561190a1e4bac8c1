//! Errors of sandboxes by cause, so that a caller can tell a broken engine from a refused setting without reading text.
//! A package that does not build is no error here but an [`Ended`](crate::Ended).

use std::path::{Path, PathBuf};

use bollard::errors::Error as EngineFault;

use crate::profile::Profile;

/// A sandbox could not be made, run, emptied or removed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine's address is no `unix://` URL of an absolute path.
    #[error("{url:?} is no engine address: expected unix:///path/of/a/socket")]
    BadUrl {
        /// The address as it was given.
        url: String,
    },
    /// No answer from the engine. Another try may succeed.
    #[error(
        "the container engine cannot be reached while {doing} ({reason}); check that it runs and that its socket is mounted"
    )]
    EngineUnreachable {
        /// The operation, such as `connecting`.
        doing: &'static str,
        /// The engine client's error text.
        reason: String,
    },
    /// The engine does not run containers with this profile, or not as asked.
    #[error("the container engine does not accept the sandbox profile '{profile}': {reason}")]
    ProfileRefused {
        /// Profile that was asked for.
        profile: Profile,
        /// The engine's error text, or what the self-test found.
        reason: String,
    },
    /// A container can use more memory than its limit.
    #[error("the container engine does not enforce the memory limit: {reason}")]
    LimitNotEnforced {
        /// What the self-test found, and what to do.
        reason: String,
    },
    /// The engine does not have the image.
    #[error("the container engine has no image '{image}'; build or load it on this engine")]
    ImageMissing {
        /// Name of the missing image.
        image: String,
    },
    /// The image of a chroot could not be baked; another try may succeed.
    #[error("{reason}")]
    BakeFailed {
        /// mock's error text or the engine's.
        reason: String,
    },
    /// The sandboxes' network cannot be made or is not as it must be.
    #[error("the sandbox network '{network}' is not usable: {reason}")]
    NetworkFailed {
        /// Name of the network.
        network: String,
        /// What is wrong, as a sentence part.
        reason: String,
    },
    /// The container could not be created, filled or started.
    #[error("the sandbox failed while {doing}: {reason}")]
    CreateFailed {
        /// The operation, such as `connecting`.
        doing: &'static str,
        /// The engine's error text.
        reason: String,
    },
    /// The source is larger than the builder takes.
    #[error("the source has {size} bytes, {cap} are accepted")]
    SourceTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The cap in bytes.
        cap: u64,
    },
    /// A file on the builder's disk could not be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Path on the builder's disk.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The container is gone: something else removed it, or its engine was replaced.
    #[error("the sandbox's container {container} is gone; it was removed from outside")]
    Vanished {
        /// The engine's id of the container.
        container: String,
    },
    /// The sandbox's result files could not be read.
    #[error("the results cannot be taken out of the sandbox: {reason}")]
    CollectFailed {
        /// What is wrong, as a sentence part.
        reason: String,
    },
    /// The container could not be removed and still exists.
    #[error("the sandbox's container {container} cannot be removed: {reason}")]
    RemoveFailed {
        /// The engine's id of the container.
        container: String,
        /// The engine's error text.
        reason: String,
    },
    /// The engine answered with an error that has no variant of its own.
    #[error("the container engine refused {doing}: {reason}")]
    Refused {
        /// The operation, such as `connecting`.
        doing: &'static str,
        /// The engine's error text.
        reason: String,
    },
}

impl SandboxError {
    /// Whether the engine did not answer, so that the same call may succeed later.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::EngineUnreachable { .. })
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// The error of a failed call to the engine, by the operation it belonged to.
    pub(crate) fn of(doing: &'static str, fault: &EngineFault) -> Self {
        match fault {
            EngineFault::DockerResponseServerError { message, .. } => Self::Refused {
                doing,
                reason: message.trim().to_owned(),
            },
            EngineFault::JsonDataError { message, .. } => Self::Refused {
                doing,
                reason: format!("its answer cannot be read: {message}"),
            },
            other => Self::EngineUnreachable {
                doing,
                reason: other.to_string(),
            },
        }
    }

    /// The error of a call about one container, which may be gone.
    pub(crate) fn about(container: &str, doing: &'static str, fault: &EngineFault) -> Self {
        if status(fault) == Some(404) {
            return Self::Vanished {
                container: container.to_owned(),
            };
        }
        Self::of(doing, fault)
    }
}

/// The engine's status code, when it answered.
pub(crate) fn status(fault: &EngineFault) -> Option<u16> {
    match fault {
        EngineFault::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
