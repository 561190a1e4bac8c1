//! Reading stored files, whole or in part, without holding them in memory.

use std::io::SeekFrom;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::error::ResultError;
use crate::store::ResultStore;

/// Bytes that are read from a file at once.
const READ_SIZE: usize = 128 << 10;

/// The bytes of a stored file, as they are read.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, ResultError>> + Send + 'static>>;

/// A file that is stored, not yet read.
#[derive(Debug, Clone)]
pub struct StoredFile {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl ResultStore {
    pub(crate) async fn open_file(
        &self,
        path: Path,
        what: impl FnOnce() -> String,
    ) -> Result<StoredFile, ResultError> {
        let meta = self
            .quick
            .head(&path)
            .await
            .map_err(|error| ResultError::of_store(what(), error))?;
        Ok(StoredFile {
            store: Arc::clone(&self.quick),
            meta,
        })
    }
}

impl StoredFile {
    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.meta.size
    }

    /// When it was stored.
    pub fn modified(&self) -> DateTime<Utc> {
        self.meta.last_modified
    }

    /// A mark that changes with the content, without quotes.
    pub fn etag(&self) -> Option<&str> {
        self.meta.e_tag.as_deref().map(|tag| tag.trim_matches('"'))
    }

    /// The bytes, or those of a range that lies within the size.
    pub async fn stream(&self, range: Option<Range<u64>>) -> Result<ByteStream, ResultError> {
        let what = self.meta.location.to_string();
        if self.meta.size == 0 || range.as_ref().is_some_and(Range::is_empty) {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options = GetOptions::new().with_range(range);
        let result = self
            .store
            .get_opts(&self.meta.location, options)
            .await
            .map_err(|error| ResultError::of_store(what.clone(), error))?;
        let range = result.range.clone();
        match result.payload {
            GetResultPayload::File(file, _) => read_file(file.into(), range, what).await,
            GetResultPayload::Stream(stream) => Ok(stream
                .map_err(move |error| ResultError::of_store(what.clone(), error))
                .boxed()),
        }
    }
}

async fn read_file(
    mut file: tokio::fs::File,
    range: Range<u64>,
    what: String,
) -> Result<ByteStream, ResultError> {
    file.seek(SeekFrom::Start(range.start))
        .await
        .map_err(|error| ResultError::of_io(what.clone(), error))?;
    let part = file.take(range.end.saturating_sub(range.start));
    Ok(ReaderStream::with_capacity(part, READ_SIZE)
        .map_err(move |error| ResultError::of_io(what.clone(), error))
        .boxed())
}
