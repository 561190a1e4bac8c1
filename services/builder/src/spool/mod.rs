//! The spool: one folder for each attempt this builder has, with everything needed to finish it after a restart.
//!
//! ```text
//! attempts/<attempt>/   attempt.json · log · source.src.rpm · results/<position>/<file> · report.json
//! ```
//!
//! `attempt.json` is written before each step that needs it. Up to the results it must only outlive this process: a
//! host that went down took the sandbox along, and the lease runs out by itself. From the results on it is synced.

pub(crate) mod atomic_file;
pub(crate) mod blocking;
pub(crate) mod disk_space;
pub(crate) mod identity;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptId, Phase, StageTime, Token};
use millrace_wire::{FinishedV1, JobV1, PackageReport};
use serde::{Deserialize, Serialize};

use crate::spool::atomic_file::Durability;

/// What the spool knows of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The order.
    pub job: JobV1,
    /// Given with the claim; the same nonce gets the same answer.
    pub nonce: Token,
    /// The lease, once the claim was granted.
    #[serde(default)]
    pub lease_token: Option<Token>,
    /// How far it is.
    pub phase: Phase,
    /// What became of the packages so far.
    #[serde(default)]
    pub packages: Vec<PackageReport>,
    /// Stages so far.
    #[serde(default)]
    pub stages: Vec<StageTime>,
    /// Digest of the chroot's image.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// When that image was baked.
    #[serde(default)]
    pub image_baked_at: Option<DateTime<Utc>>,
}

/// The spool of one identity. Clones name the same folder.
#[derive(Debug, Clone)]
pub struct Spool {
    attempts: PathBuf,
}

/// The folder of one attempt.
#[derive(Debug, Clone)]
pub struct AttemptFolder {
    path: PathBuf,
}

/// What lies in a spool at the start.
#[derive(Debug)]
pub struct Found {
    /// The folder.
    pub folder: AttemptFolder,
    /// Its record.
    pub record: Record,
}

impl Spool {
    /// The spool in an identity's folder.
    pub fn open(identity: &Path) -> io::Result<Self> {
        let attempts = identity.join("attempts");
        make_folder(&attempts)?;
        Ok(Self { attempts })
    }

    /// The folder of an attempt, which need not exist.
    pub fn folder(&self, attempt: AttemptId) -> AttemptFolder {
        AttemptFolder {
            path: self.attempts.join(attempt.to_string()),
        }
    }

    /// All attempts of an earlier process. What cannot be read is set aside under another name, for a person.
    pub fn find(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.attempts)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "broken")
            {
                continue;
            }
            let folder = AttemptFolder { path };
            match folder.read() {
                Ok(record) => found.push(Found { folder, record }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => folder.remove()?,
                Err(error) => folder.set_aside(&error)?,
            }
        }
        Ok(found)
    }
}

impl AttemptFolder {
    /// Makes the folder; fine when it is there.
    pub fn make(&self) -> io::Result<()> {
        make_folder(&self.path)
    }

    /// Reads the record.
    pub fn read(&self) -> io::Result<Record> {
        Ok(serde_json::from_slice(&std::fs::read(
            self.path.join("attempt.json"),
        )?)?)
    }

    /// Writes the record.
    pub fn write(&self, record: &Record, durability: Durability) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        atomic_file::write_private(&self.path.join("attempt.json"), &bytes, durability)
    }

    /// Reads the report, when there is one.
    pub fn read_report(&self) -> io::Result<Option<FinishedV1>> {
        match std::fs::read(self.path.join("report.json")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the report.
    pub fn write_report(&self, report: &FinishedV1, durability: Durability) -> io::Result<()> {
        let bytes = serde_json::to_vec(report)?;
        atomic_file::write_private(&self.path.join("report.json"), &bytes, durability)
    }

    /// Where the log is spooled.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where a source lies until its package is done with.
    pub fn source(&self, position: u32) -> PathBuf {
        self.path.join(format!("source-{position}.src.rpm"))
    }

    /// Where the files of a package lie.
    pub fn results(&self, position: u32) -> PathBuf {
        self.path.join("results").join(position.to_string())
    }

    /// Makes an empty folder for the files of a package.
    pub fn make_results(&self, position: u32) -> io::Result<PathBuf> {
        self.remove_results(position)?;
        let folder = self.results(position);
        make_folder(&folder)?;
        Ok(folder)
    }

    /// Removes the files of a package; fine when there are none.
    pub fn remove_results(&self, position: u32) -> io::Result<()> {
        remove_folder(&self.results(position))
    }

    /// Removes everything; fine when nothing is there.
    pub fn remove(&self) -> io::Result<()> {
        remove_folder(&self.path)
    }

    fn set_aside(&self, reason: &io::Error) -> io::Result<()> {
        let aside = self.path.with_extension("broken");
        tracing::error!(folder = %aside.display(), "setting aside an attempt in the spool that cannot be read: {reason}");
        remove_folder(&aside)?;
        std::fs::rename(&self.path, aside)
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::samples;
    use std::os::unix::fs::PermissionsExt;

    pub(crate) fn record() -> Record {
        Record {
            job: samples::job(),
            nonce: Token::new("nonce"),
            lease_token: Some(Token::new("lease")),
            phase: Phase::Fetching,
            packages: Vec::new(),
            stages: Vec::new(),
            image_digest: None,
            image_baked_at: None,
        }
    }

    #[test]
    fn what_was_written_is_found_after_a_restart() {
        let identity = tempfile::tempdir().unwrap();
        let spool = Spool::open(identity.path()).unwrap();
        let folder = spool.folder(samples::job().attempt_id);
        folder.make().unwrap();
        let mut written = record();
        folder.write(&written, Durability::ProcessCrash).unwrap();
        written.phase = Phase::Spooled;
        folder.write(&written, Durability::HostCrash).unwrap();

        let found = Spool::open(identity.path()).unwrap().find().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].record.phase, Phase::Spooled);
        assert_eq!(found[0].record.job, written.job);
        let lease = found[0].record.lease_token.as_ref().unwrap();
        assert_eq!(lease.expose(), "lease");
        found[0].folder.remove().unwrap();
        assert!(spool.find().unwrap().is_empty());
    }

    #[test]
    fn secrets_are_for_the_owner_alone() {
        let identity = tempfile::tempdir().unwrap();
        let folder = Spool::open(identity.path())
            .unwrap()
            .folder(samples::job().attempt_id);
        folder.make().unwrap();
        folder.write(&record(), Durability::ProcessCrash).unwrap();
        folder
            .write_report(&samples::finished(), Durability::HostCrash)
            .unwrap();
        for name in ["attempt.json", "report.json"] {
            let mode = std::fs::metadata(folder.path.join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        assert!(folder.read_report().unwrap().is_some());
    }

    #[test]
    fn a_folder_without_a_record_goes_and_an_unreadable_one_is_set_aside() {
        let identity = tempfile::tempdir().unwrap();
        let spool = Spool::open(identity.path()).unwrap();
        let empty = spool.folder(AttemptId::generate());
        empty.make().unwrap();
        let torn = spool.folder(AttemptId::generate());
        torn.make().unwrap();
        std::fs::write(torn.path.join("attempt.json"), "{").unwrap();
        assert!(spool.find().unwrap().is_empty());
        assert!(!empty.path.exists());
        assert!(torn.path.with_extension("broken").exists());
        assert!(spool.find().unwrap().is_empty(), "it stays aside");
    }

    #[test]
    fn results_begin_empty() {
        let identity = tempfile::tempdir().unwrap();
        let folder = Spool::open(identity.path())
            .unwrap()
            .folder(AttemptId::generate());
        folder.make().unwrap();
        let results = folder.make_results(3).unwrap();
        std::fs::write(results.join("left-over"), "x").unwrap();
        assert_eq!(
            std::fs::read_dir(folder.make_results(3).unwrap())
                .unwrap()
                .count(),
            0
        );
    }
}
