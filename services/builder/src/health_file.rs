//! The health of a running builder, as a small file that the command `healthcheck` reads. A builder listens on no
//! port, so this is how an engine or a person asks.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::spool::atomic_file::{self, Durability};

/// A status older than this is of a builder that hangs or is gone, in seconds.
const FRESH_SECONDS: i64 = 40;

/// What a builder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When it said so.
    pub time: DateTime<Utc>,
    /// Why it is not ready; none when it is.
    pub trouble: Option<String>,
}

/// Where the status is kept.
#[derive(Debug, Clone)]
pub struct StatusFile(PathBuf);

impl StatusFile {
    /// The file at a path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Writes the status; a failure only costs the health check.
    pub fn write(&self, trouble: Option<String>) {
        let status = Status {
            time: Utc::now(),
            trouble,
        };
        let written = serde_json::to_vec(&status)
            .map_err(io::Error::from)
            .and_then(|bytes| {
                atomic_file::write_private(&self.0, &bytes, Durability::ProcessCrash)
            });
        if let Err(error) = written {
            tracing::warn!(file = %self.0.display(), "cannot write the status: {error}");
        }
    }

    /// Removes the status: the builder stops.
    pub fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.0.display(), "cannot remove the status: {error}");
        }
    }

    /// Whether the builder is ready, or why not, at a time.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), String> {
        let bytes = std::fs::read(&self.0)
            .map_err(|error| format!("no builder runs here: {}: {error}", self.0.display()))?;
        let status: Status = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{} is no status: {error}", self.0.display()))?;
        let age = now - status.time;
        if age > TimeDelta::seconds(FRESH_SECONDS) {
            return Err(format!(
                "the builder said nothing for {} s",
                age.num_seconds()
            ));
        }
        status.trouble.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_ready_troubled_stale_or_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = StatusFile::new(&folder.path().join("status"));
        assert!(file.check(Utc::now()).unwrap_err().contains("no builder"));
        file.write(None);
        assert_eq!(file.check(Utc::now()), Ok(()));
        let later = Utc::now() + TimeDelta::seconds(FRESH_SECONDS + 2);
        assert!(file.check(later).unwrap_err().contains("said nothing"));
        file.write(Some("no broker".to_owned()));
        assert_eq!(file.check(Utc::now()), Err("no broker".to_owned()));
        file.remove();
        file.remove();
        assert!(file.check(Utc::now()).is_err());
    }
}
