//! Result files of attempts. A file is stored only when its size and digest are what the builder announced.

use bytes::Bytes;
use futures_util::Stream;

use crate::digest::Sha256;
use crate::error::{BoxError, ResultError};
use crate::layout::{self, AttemptFile};
use crate::serve::StoredFile;
use crate::staging::Staged;
use crate::store::ResultStore;

/// What the sender announced, and the largest size that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Announced SHA-256 digest of the whole file.
    pub sha256: Sha256,
    /// The announced size in bytes.
    pub size: u64,
    /// The largest size in bytes that is accepted.
    pub cap: u64,
}

impl ResultStore {
    /// Stores a file of an attempt. On success it is on disk; on failure nothing of it is visible, and an older
    /// complete file of that name stays.
    pub async fn put_attempt_file<S, B, E>(
        &self,
        file: &AttemptFile,
        expected: Expected,
        stream: S,
    ) -> Result<(), ResultError>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: Into<Bytes>,
        E: Into<BoxError>,
    {
        let name = layout::attempt_file(file)?;
        if expected.size > expected.cap {
            return Err(ResultError::TooLarge { cap: expected.cap });
        }
        let staged = match self.receive(stream, expected.size).await {
            Err(ResultError::TooLarge { cap }) => {
                return Err(ResultError::SizeMismatch {
                    expected: cap,
                    actual: cap.saturating_add(1),
                });
            }
            other => other?,
        };
        if let Err(mismatch) = verify(&staged, expected) {
            self.remove(&staged.path).await?;
            return Err(mismatch);
        }
        self.publish(&staged, &name).await
    }

    /// Opens a stored file of an attempt for reading.
    pub async fn attempt_file(&self, file: &AttemptFile) -> Result<StoredFile, ResultError> {
        self.open_file(layout::attempt_file(file)?, || {
            format!("file {} of attempt {}", file.name, file.attempt)
        })
        .await
    }

    /// The size of a stored file of an attempt; none when it is not stored.
    pub async fn has_attempt_file(&self, file: &AttemptFile) -> Result<Option<u64>, ResultError> {
        self.size(&layout::attempt_file(file)?).await
    }
}

fn verify(staged: &Staged, expected: Expected) -> Result<(), ResultError> {
    if staged.size != expected.size {
        return Err(ResultError::SizeMismatch {
            expected: expected.size,
            actual: staged.size,
        });
    }
    if staged.sha256 != expected.sha256 {
        return Err(ResultError::DigestMismatch {
            expected: expected.sha256,
            actual: staged.sha256.clone(),
        });
    }
    Ok(())
}
