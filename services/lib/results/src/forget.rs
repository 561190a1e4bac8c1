//! Deletes what is no longer needed: files that no report names, old logs, sources that no build names.

use std::collections::HashSet;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, SystemTime};

use millrace_domain::{AttemptId, FileName};
use tokio::fs;

use crate::digest::Sha256;
use crate::error::ResultError;
use crate::layout::{self, AttemptFile};
use crate::store::ResultStore;
use crate::store::absent_is_fine;

/// Suffix of a source's name while it is decided whether it is removed.
const LEAVING: &str = ".leaving";
/// Size of the file that is written to find out whether there is space, in bytes.
const PROBE_SIZE: usize = 1 << 20;

impl ResultStore {
    /// Whether a file of a mebibyte could be stored at this moment.
    pub async fn check_room(&self) -> Result<(), ResultError> {
        self.probe(vec![0; PROBE_SIZE].into()).await
    }

    /// Removes all files of an attempt except its log. Files that do not exist are no error.
    pub async fn delete_attempt_files(&self, attempt: AttemptId) -> Result<(), ResultError> {
        self.remove_folder(&layout::attempt(attempt)?).await
    }

    /// Removes an attempt's log. One that does not exist is no error.
    pub async fn delete_log(&self, attempt: AttemptId) -> Result<(), ResultError> {
        self.remove_folder(&layout::log(attempt)?).await
    }

    /// Removes all files of an attempt except its log and `kept`. Returns how many.
    pub async fn keep_attempt_files(
        &self,
        attempt: AttemptId,
        kept: &HashSet<(u32, FileName)>,
    ) -> Result<u64, ResultError> {
        let mut names = HashSet::with_capacity(kept.len());
        for (position, name) in kept {
            names.insert(layout::attempt_file(&AttemptFile {
                attempt,
                position: *position,
                name: name.clone(),
            })?);
        }
        let mut removed = 0;
        for object in self.list(&layout::attempt(attempt)?).await? {
            if !names.contains(&object.location) {
                self.remove(&object.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes one file of an attempt. One that does not exist is no error.
    pub async fn delete_attempt_file(&self, file: &AttemptFile) -> Result<(), ResultError> {
        self.remove(&layout::attempt_file(file)?).await
    }

    /// Ids of all attempts that have files.
    pub async fn attempts_with_files(&self) -> Result<Vec<AttemptId>, ResultError> {
        let folder = self.root().join(layout::ATTEMPTS);
        let names = names(&folder).await.map_err(failed)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Makes a source as young as one just uploaded, so that it is not removed while it is about to be named.
    pub async fn touch_source(&self, sha256: &Sha256) -> Result<(), ResultError> {
        let path = self.root().join(layout::source(sha256)?.as_ref());
        let name = format!("source {sha256}");
        tokio::task::spawn_blocking(move || {
            std::fs::File::options()
                .append(true)
                .open(path)?
                .set_modified(SystemTime::now())
        })
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(|error| ResultError::of_io(name, error))
    }

    /// Sources that were neither uploaded nor touched for longer than the time given. Those that an interrupted
    /// [`Self::remove_source`] left between two names get their own back first.
    pub async fn old_sources(&self, older_than: Duration) -> Result<Vec<Sha256>, ResultError> {
        let root = self.root().join(layout::SOURCES);
        let mut old = Vec::new();
        for prefix in names(&root).await.map_err(failed)? {
            let folder = root.join(prefix);
            for name in names(&folder).await.map_err(failed)? {
                let path = folder.join(&name);
                let own = name.strip_suffix(LEAVING).unwrap_or(&name);
                if own != name {
                    give_back(&path, &folder.join(own)).await.map_err(failed)?;
                }
                let is_old = age(&folder.join(own)).await.map_err(failed)? >= Some(older_than);
                if is_old && let Ok(sha256) = own.parse() {
                    old.push(sha256);
                }
            }
        }
        Ok(old)
    }

    /// Removes a source that is older than the time given, unless it turns out to be needed; says whether it did.
    ///
    /// Why no source goes that a build names: a submission first touches the source under its name, and then stores
    /// the build. Here the source first loses its name, and only then its age and `is_named` are asked. A touch before
    /// that moment is seen as youth; a touch after it fails, and so does the submission; and a build stored
    /// longer ago than any submission takes is seen by `is_named`.
    pub async fn remove_source(
        &self,
        sha256: &Sha256,
        older_than: Duration,
        is_named: impl Future<Output = bool>,
    ) -> Result<bool, ResultError> {
        let path = self.root().join(layout::source(sha256)?.as_ref());
        let aside = PathBuf::from(format!("{}{LEAVING}", path.display()));
        match fs::rename(&path, &aside).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(failed)?,
        }
        let is_young = age(&aside).await.map_err(failed)? < Some(older_than);
        if is_young || is_named.await {
            give_back(&aside, &path).await.map_err(failed)?;
            return Ok(false);
        }
        absent_is_fine(fs::remove_file(&aside).await).map_err(failed)?;
        Ok(true)
    }
}

/// Renames a source back, unless it was uploaded again meanwhile: then the newer file stays.
async fn give_back(aside: &FilePath, path: &FilePath) -> io::Result<()> {
    match fs::hard_link(aside, path).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => absent_is_fine(other)?,
    }
    absent_is_fine(fs::remove_file(aside).await)
}

/// The names in a folder; none where there is no such folder.
async fn names(folder: &FilePath) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut entries = match fs::read_dir(folder).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        other => other?,
    };
    while let Some(entry) = entries.next_entry().await? {
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// How long ago a file was written or touched; none where it is gone.
async fn age(path: &FilePath) -> io::Result<Option<Duration>> {
    match fs::metadata(path).await {
        Ok(metadata) => {
            let age = SystemTime::now().duration_since(metadata.modified()?);
            Ok(Some(age.unwrap_or(Duration::ZERO)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(error: io::Error) -> ResultError {
    ResultError::of_io("old objects", error)
}
