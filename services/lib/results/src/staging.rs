//! Uploads under way: counted, hashed and written to a staging name, then moved to their own name or deleted.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use sha2::Digest;

use crate::digest::Sha256;
use crate::error::BoxError;
use crate::error::ResultError;
use crate::layout;
use crate::store::ResultStore;

/// Bytes that are written at once; with those in flight the most that an upload holds in memory is thrice that.
const PART_SIZE: usize = 1 << 20;

/// How many parts may be on their way to the disk.
const PARTS_IN_FLIGHT: usize = 2;

/// An upload under way. Dropped unfinished, it leaves nothing.
pub(crate) struct Upload {
    path: Path,
    writer: WriteMultipart,
    hash: sha2::Sha256,
    size: u64,
}

/// An upload that is complete but has no name yet.
pub(crate) struct Staged {
    pub(crate) path: Path,
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
}

impl Upload {
    pub(crate) async fn begin(store: &ResultStore) -> Result<Self, ResultError> {
        let path = layout::staging()?;
        let upload = store
            .durable
            .put_multipart(&path)
            .await
            .map_err(|error| ResultError::of_store("an upload", error))?;
        Ok(Self {
            path,
            writer: WriteMultipart::new_with_chunk_size(upload, PART_SIZE),
            hash: sha2::Sha256::new(),
            size: 0,
        })
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), ResultError> {
        self.writer
            .wait_for_capacity(PARTS_IN_FLIGHT)
            .await
            .map_err(|error| ResultError::of_store("an upload", error))?;
        self.hash.update(&bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.writer.put(bytes);
        Ok(())
    }

    pub(crate) async fn finish(self) -> Result<Staged, ResultError> {
        self.writer
            .finish()
            .await
            .map_err(|error| ResultError::of_store("an upload", error))?;
        Ok(Staged {
            path: self.path,
            sha256: Sha256::from_bytes(self.hash.finalize().into()),
            size: self.size,
        })
    }
}

impl ResultStore {
    /// Receives a stream of at most `cap` bytes.
    pub(crate) async fn receive<S, B, E>(&self, stream: S, cap: u64) -> Result<Staged, ResultError>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: Into<Bytes>,
        E: Into<BoxError>,
    {
        let mut upload = Upload::begin(self).await?;
        let mut stream = std::pin::pin!(stream);
        while let Some(bytes) = stream.next().await {
            let bytes: Bytes = bytes
                .map_err(|error| ResultError::Input(error.into()))?
                .into();
            if upload.size.saturating_add(bytes.len() as u64) > cap {
                return Err(ResultError::TooLarge { cap });
            }
            upload.write(bytes).await?;
        }
        upload.finish().await
    }

    /// Gives a complete upload its name, in place of what had it before.
    pub(crate) async fn publish(&self, staged: &Staged, name: &Path) -> Result<(), ResultError> {
        if let Err(error) = self.durable.rename(&staged.path, name).await {
            // A full disk may refuse even a new folder; the upload must not stay aside.
            self.remove(&staged.path).await?;
            return Err(ResultError::of_store(name.to_string(), error));
        }
        Ok(())
    }
}
