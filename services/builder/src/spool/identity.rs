//! Who this builder is. Replicas share an environment and a spool volume, so each takes one subfolder by `flock`:
//! one that no living builder holds, with its id and unsent reports, or a new one. The lock ends with the process,
//! however it ends.
//!
//! ```text
//! <spool>/builder-<id>/   lock · builder.json · token · attempts/
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use millrace_domain::{BuilderId, Token};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::spool::atomic_file::{self, Durability};

/// Why no identity could be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the spool at {}: {source}; MILLRACE_SPOOL_DIR must name a folder that the builder may write", path.display())]
pub struct IdentityError {
    /// The file or folder concerned.
    pub path: PathBuf,
    /// What happened.
    #[source]
    pub source: io::Error,
}

/// A builder's identity, held by a lock as long as this value lives.
#[derive(Debug)]
pub struct Identity {
    id: BuilderId,
    folder: PathBuf,
    adopted: bool,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    id: BuilderId,
}

impl Identity {
    /// Takes an identity out of the spool.
    pub fn acquire(spool: &Path) -> Result<Self, IdentityError> {
        make_folder(spool).map_err(|source| error_at(spool, source))?;
        for folder in candidates(spool).map_err(|source| error_at(spool, source))? {
            match adopt(&folder) {
                Ok(Some(identity)) => return Ok(identity),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), "passing over a spool folder that cannot be used: {error}");
                }
            }
        }
        create(spool).map_err(|source| error_at(spool, source))
    }

    /// The id that names this builder everywhere.
    pub fn id(&self) -> BuilderId {
        self.id
    }

    /// Whether an earlier process had this identity.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// This identity's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The token of the last enrolment.
    pub fn token(&self) -> io::Result<Option<Token>> {
        match std::fs::read_to_string(self.folder.join("token")) {
            Ok(text) => Ok(Some(Token::new(text)).filter(|token| !token.expose().is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the token of an enrolment.
    pub fn store_token(&self, token: &Token) -> io::Result<()> {
        let path = self.folder.join("token");
        atomic_file::write_private(&path, token.expose().as_bytes(), Durability::HostCrash)
    }
}

fn error_at(path: &Path, source: io::Error) -> IdentityError {
    IdentityError {
        path: path.to_owned(),
        source,
    }
}

/// Folders of identities, those with attempts first: unsent reports are waited for.
fn candidates(spool: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(spool)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("builder-") {
            folders.push(entry.path());
        }
    }
    folders.sort_by_cached_key(|folder| (!has_attempts(folder), folder.clone()));
    Ok(folders)
}

fn has_attempts(folder: &Path) -> bool {
    std::fs::read_dir(folder.join("attempts")).is_ok_and(|mut entries| entries.next().is_some())
}

fn adopt(folder: &Path) -> io::Result<Option<Identity>> {
    let Some(lock) = lock(folder)? else {
        return Ok(None);
    };
    let file_content: IdentityFile =
        serde_json::from_slice(&std::fs::read(folder.join("builder.json"))?)?;
    Ok(Some(Identity {
        id: file_content.id,
        folder: folder.to_owned(),
        adopted: true,
        _lock: lock,
    }))
}

/// Makes a new identity aside and moves it in place, locked already, so that nobody adopts it half made.
fn create(spool: &Path) -> io::Result<Identity> {
    let id = BuilderId::generate();
    let staging = spool.join(format!("new-{id}"));
    let folder = spool.join(format!("builder-{id}"));
    make_folder(&staging)?;
    let lock = lock(&staging)?.ok_or_else(|| io::Error::other("a new folder is locked already"))?;
    let file_content = serde_json::to_vec(&IdentityFile { id })?;
    atomic_file::write_private(
        &staging.join("builder.json"),
        &file_content,
        Durability::HostCrash,
    )?;
    make_folder(&staging.join("attempts"))?;
    std::fs::rename(&staging, &folder)?;
    atomic_file::sync_folder(spool)?;
    Ok(Identity {
        id,
        folder,
        adopted: false,
        _lock: lock,
    })
}

fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_on_one_spool_are_different_builders() {
        let spool = tempfile::tempdir().unwrap();
        let first = Identity::acquire(spool.path()).unwrap();
        let second = Identity::acquire(spool.path()).unwrap();
        assert_ne!(first.id(), second.id());
        assert!(!first.adopted() && !second.adopted());
    }

    #[test]
    fn a_restarted_builder_is_the_same_one_with_its_token() {
        let spool = tempfile::tempdir().unwrap();
        let _other = Identity::acquire(spool.path()).unwrap();
        let first = Identity::acquire(spool.path()).unwrap();
        assert!(first.token().unwrap().is_none());
        first.store_token(&Token::new("secret")).unwrap();
        let id = first.id();
        drop(first);
        let again = Identity::acquire(spool.path()).unwrap();
        assert_eq!((again.id(), again.adopted()), (id, true));
        assert_eq!(again.token().unwrap().unwrap().expose(), "secret");
    }

    #[test]
    fn a_folder_with_unsent_reports_is_adopted_first() {
        let spool = tempfile::tempdir().unwrap();
        let builders: Vec<_> = (0..4)
            .map(|_| Identity::acquire(spool.path()).unwrap())
            .collect();
        let chosen = &builders[2];
        std::fs::create_dir(chosen.folder().join("attempts/x")).unwrap();
        let id = chosen.id();
        drop(builders);
        assert_eq!(Identity::acquire(spool.path()).unwrap().id(), id);
    }

    #[test]
    fn a_broken_folder_is_passed_over() {
        let spool = tempfile::tempdir().unwrap();
        let broken = spool.path().join("builder-broken");
        std::fs::create_dir(&broken).unwrap();
        std::fs::write(broken.join("builder.json"), "{").unwrap();
        assert!(!Identity::acquire(spool.path()).unwrap().adopted());
    }
}
