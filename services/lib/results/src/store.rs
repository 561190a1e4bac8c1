//! The store itself: opening it, checking it, and removing objects.

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use millrace_domain::AttemptId;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use url::Url;

use crate::error::ResultError;
use crate::layout;

/// The place where sources, files of attempts and logs are kept. Clones share one store.
#[derive(Debug, Clone)]
pub struct ResultStore {
    /// Syncs to disk before it reports success.
    pub(crate) durable: Arc<dyn ObjectStore>,
    /// The same objects without syncing, for logs that grow.
    pub(crate) quick: Arc<dyn ObjectStore>,
    root: PathBuf,
}

impl ResultStore {
    /// Opens the store at a URL such as `file:///var/lib/millrace/results`; a missing directory is made.
    pub async fn open(url: &str) -> Result<Self, ResultError> {
        let bad = |reason: String| ResultError::BadUrl {
            url: url.to_owned(),
            reason,
        };
        let root = directory(url).map_err(bad)?;
        tokio::fs::create_dir_all(&root)
            .await
            .map_err(|error| bad(error.to_string()))?;
        let local = |sync: bool| {
            LocalFileSystem::new_with_prefix(&root)
                .map(|store| store.with_fsync(sync))
                .map_err(|error| bad(error.to_string()))
        };
        let store = Self {
            durable: Arc::new(local(true)?),
            quick: Arc::new(local(false)?),
            root,
        };
        store.check().await.map_err(|error| match error {
            ResultError::Store { source, .. } => bad(source.to_string()),
            other => other,
        })?;
        Ok(store)
    }

    /// Writes and removes a small object: whether the store works at this moment.
    pub async fn check(&self) -> Result<(), ResultError> {
        self.probe("probe".into()).await
    }

    pub(crate) async fn probe(&self, bytes: PutPayload) -> Result<(), ResultError> {
        let probe = layout::staging()?;
        self.quick
            .put(&probe, bytes)
            .await
            .map_err(|error| ResultError::of_store("a probe", error))?;
        self.quick
            .delete(&probe)
            .await
            .map_err(|error| ResultError::of_store("a probe", error))
    }

    /// Removes all files and the log of an attempt. What is gone already is no error.
    pub async fn delete_attempt(&self, attempt: AttemptId) -> Result<(), ResultError> {
        self.delete_attempt_files(attempt).await?;
        self.delete_log(attempt).await
    }

    pub(crate) async fn remove_folder(&self, folder: &Path) -> Result<(), ResultError> {
        for object in self.list(folder).await? {
            self.remove(&object.location).await?;
        }
        // Takes along what an interrupted write left, which object listings do not show.
        let path = self.root.join(folder.as_ref());
        absent_is_fine(tokio::fs::remove_dir_all(path).await)
            .map_err(|error| ResultError::of_io(folder.to_string(), error))
    }

    pub(crate) fn root(&self) -> &FilePath {
        &self.root
    }

    /// Removes unfinished uploads that nothing was added to for longer than the time given, and says how many.
    pub async fn sweep_staging(&self, older_than: Duration) -> Result<u64, ResultError> {
        sweep(&self.root.join(layout::STAGING), older_than)
            .await
            .map_err(|error| ResultError::of_io(layout::STAGING, error))
    }

    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, ResultError> {
        self.quick
            .list(Some(folder))
            .try_collect()
            .await
            .or_else(|error| match error {
                // A folder that another caller removes while it is listed is an empty one.
                object_store::Error::NotFound { .. } => Ok(Vec::new()),
                error => Err(ResultError::of_store(folder.to_string(), error)),
            })
    }

    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, ResultError> {
        match self.quick.head(path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(ResultError::of_store(path.to_string(), error)),
        }
    }

    pub(crate) async fn remove(&self, path: &Path) -> Result<(), ResultError> {
        match self.quick.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(ResultError::of_store(path.to_string(), error)),
        }
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() != "file" {
        return Err(format!("the scheme {} is not supported", url.scheme()));
    }
    let path = url
        .to_file_path()
        .map_err(|()| "it names another host".to_owned())?;
    if path == FilePath::new("/") {
        return Err("it names the root directory".to_owned());
    }
    Ok(path)
}

pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn sweep(folder: &FilePath, older_than: Duration) -> io::Result<u64> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let now = SystemTime::now();
    let mut removed = 0;
    while let Some(entry) = entries.next_entry().await? {
        let metadata = match entry.metadata().await {
            Ok(metadata) => metadata,
            // Its upload ended just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let age = now
            .duration_since(metadata.modified()?)
            .unwrap_or(Duration::ZERO);
        if metadata.is_file() && age >= older_than {
            absent_is_fine(tokio::fs::remove_file(entry.path()).await)?;
            removed += 1;
        }
    }
    Ok(removed)
}
