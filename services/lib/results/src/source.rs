//! Uploaded sources, named by their content.

use bytes::Bytes;
use futures_util::Stream;

use crate::digest::Sha256;
use crate::error::{BoxError, ResultError};
use crate::layout;
use crate::serve::StoredFile;
use crate::store::ResultStore;

/// A source that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSource {
    /// The digest of its bytes, which is its name.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

impl ResultStore {
    /// Stores a stream of at most `cap` bytes. The same bytes twice are one source. On success they are on disk;
    /// on failure nothing is visible.
    pub async fn put_source<S, B, E>(
        &self,
        stream: S,
        cap: u64,
    ) -> Result<StoredSource, ResultError>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: Into<Bytes>,
        E: Into<BoxError>,
    {
        let staged = self.receive(stream, cap).await?;
        // Replacing equal bytes is harmless, and heals a file that was damaged.
        self.publish(&staged, &layout::source(&staged.sha256)?)
            .await?;
        Ok(StoredSource {
            sha256: staged.sha256,
            size: staged.size,
        })
    }

    /// Opens a stored source for reading.
    pub async fn source(&self, sha256: &Sha256) -> Result<StoredFile, ResultError> {
        self.open_file(layout::source(sha256)?, || format!("source {sha256}"))
            .await
    }

    /// Whether a source is stored.
    pub async fn has_source(&self, sha256: &Sha256) -> Result<bool, ResultError> {
        Ok(self.size(&layout::source(sha256)?).await?.is_some())
    }
}
