//! What a builder uploads for an attempt while it holds the lease: chunks of the log, and result files.

use millrace_domain::{AttemptId, FileName, TokenHash};

use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, int4, int8};

/// A file of an attempt's results.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// Position of the package.
    pub position: u32,
    /// The file's name.
    pub name: FileName,
}

/// What became of a chunk of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAppend {
    /// It belongs to the log, which now has this size.
    Stored {
        /// In bytes.
        size: u64,
    },
    /// It does not begin where the log ends.
    Mismatch {
        /// The log's size, in bytes.
        size: u64,
    },
    /// The caller does not hold the attempt.
    NoLease,
}

/// A file that has arrived in the result store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedFile {
    /// Position of its package.
    pub position: u32,
    /// Its name.
    pub name: FileName,
    /// In bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl Store {
    /// Counts a chunk of `len` bytes at `offset` into the attempt's log, if the log ends there.
    pub async fn append_log_size(
        &self,
        attempt: AttemptId,
        lease: &TokenHash,
        offset: u64,
        len: u64,
    ) -> Result<LogAppend, StoreError> {
        let grown = self.within(async {
            let grown: Option<i64> = sqlx::query_scalar(
                "update attempts set log_size = log_size + $4
                 where id = $1 and state = 'claimed' and lease_token_hash = $2 and log_size = $3
                 returning log_size",
            )
            .bind(attempt.0)
            .bind(lease.as_bytes())
            .bind(int8(offset))
            .bind(int8(len))
            .fetch_optional(&self.pool)
            .await?;
            Ok(grown)
        });
        match grown.await? {
            Some(size) => Ok(LogAppend::Stored {
                size: RowOf::new("attempts", attempt).number(size)?,
            }),
            None => Ok(match self.log_end(attempt, lease, offset).await? {
                // The log has grown to this end just now: the chunk was not counted and comes again.
                LogAppend::Stored { size } => LogAppend::Mismatch { size },
                refused @ (LogAppend::Mismatch { .. } | LogAppend::NoLease) => refused,
            }),
        }
    }

    /// What a chunk at `offset` would meet, without counting anything.
    pub async fn log_end(
        &self,
        attempt: AttemptId,
        lease: &TokenHash,
        offset: u64,
    ) -> Result<LogAppend, StoreError> {
        self.within(async {
            let present: Option<i64> = sqlx::query_scalar(
                "select log_size from attempts where id = $1 and state = 'claimed' and lease_token_hash = $2",
            )
            .bind(attempt.0)
            .bind(lease.as_bytes())
            .fetch_optional(&self.pool)
            .await?;
            let Some(size) = present else {
                return Ok(LogAppend::NoLease);
            };
            let size = RowOf::new("attempts", attempt).number(size)?;
            Ok(if size == offset {
                LogAppend::Stored { size }
            } else {
                LogAppend::Mismatch { size }
            })
        })
        .await
    }

    /// Notes a file that the result store has. It is a result once its attempt is accepted with it.
    pub async fn record_file(
        &self,
        attempt: AttemptId,
        lease: &TokenHash,
        file: &UploadedFile,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let recorded = sqlx::query(
                "with holder as (
                    -- Shared, so that files come in side by side, but not while the report is being judged.
                    select id from attempts where id = $1 and state = 'claimed' and lease_token_hash = $2 for share
                )
                insert into result_files (attempt_id, position, name, size, sha256)
                select id, $3, $4, $5, $6 from holder
                on conflict (attempt_id, position, name) do update
                set size = excluded.size, sha256 = excluded.sha256, uploaded_at = now()",
            )
            .bind(attempt.0)
            .bind(lease.as_bytes())
            .bind(int4(file.position))
            .bind(file.name.as_str())
            .bind(int8(file.size))
            .bind(&file.sha256)
            .execute(&self.pool)
            .await?;
            Ok(recorded.rows_affected() == 1)
        })
        .await
    }
}
