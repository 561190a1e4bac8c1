//! Logs that grow in chunks and are read while they grow.
//!
//! A reader never waits for a writer: it sees the chunks without a gap from its position on, or the sealed log. A chunk
//! that vanishes while it is read has moved into the sealed log, so the read starts over there.

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use millrace_domain::AttemptId;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};

use crate::error::ResultError;
use crate::layout;
use crate::store::ResultStore;

/// Largest log that is accepted, in bytes. Guards against wrong offsets; the limit on a build's log is the sandbox's.
const MAX_LOG: u64 = 4 << 30;

/// How much is read at once for a stream.
const STREAM_PART: usize = 256 << 10;

/// How often a read starts over because the log was being sealed meanwhile; sealing happens once.
const READ_TRIES: usize = 3;

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// The bytes from the requested position on. Empty: there are no more now or, when sealed, ever.
    pub bytes: Bytes,
    /// Whether the log will not grow any more.
    pub sealed: bool,
}

/// A chunk of a log, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Chunk {
    pub(crate) fn end(self) -> u64 {
        self.offset.saturating_add(self.size)
    }

    fn covers(self, position: u64) -> bool {
        self.offset <= position && position < self.end()
    }
}

impl ResultStore {
    /// Adds bytes at an offset. Chunks may come in any order and more than once. Not synced to disk.
    pub async fn append_log(
        &self,
        attempt: AttemptId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), ResultError> {
        let size = bytes.len() as u64;
        let end = offset.saturating_add(size);
        if size == 0 {
            return Ok(());
        }
        if end > MAX_LOG {
            return Err(ResultError::TooLarge { cap: MAX_LOG });
        }
        if let Some(length) = self.size(&layout::sealed_log(attempt)?).await? {
            return if end <= length {
                Ok(())
            } else {
                Err(ResultError::Sealed { length })
            };
        }
        let path = layout::log_chunk(attempt, offset)?;
        // A late repetition must not shorten what a later, longer one brought.
        if self.size(&path).await?.is_some_and(|known| known >= size) {
            return Ok(());
        }
        self.quick
            .put(&path, bytes.into())
            .await
            .map(|_| ())
            .map_err(|error| ResultError::of_store(path.to_string(), error))
    }

    /// Up to `max_bytes` from a position on, possibly fewer although there are more.
    pub async fn read_log(
        &self,
        attempt: AttemptId,
        from: u64,
        max_bytes: usize,
    ) -> Result<LogPart, ResultError> {
        let sealed_path = layout::sealed_log(attempt)?;
        for _ in 0..READ_TRIES {
            if let Some((bytes, _)) = self.read_object(&sealed_path, from, max_bytes).await? {
                return Ok(LogPart {
                    bytes,
                    sealed: true,
                });
            }
            let bytes = self.read_chunks(attempt, from, max_bytes).await?;
            // Nothing found may also mean: sealed since we looked.
            if !bytes.is_empty() || self.size(&sealed_path).await?.is_none() {
                return Ok(LogPart {
                    bytes,
                    sealed: false,
                });
            }
        }
        Err(ResultError::NotFound(format!(
            "the log of attempt {attempt}"
        )))
    }

    /// How long the log is, counted from its start to its end or its first gap.
    pub async fn log_length(&self, attempt: AttemptId) -> Result<u64, ResultError> {
        let sealed_path = layout::sealed_log(attempt)?;
        if let Some(length) = self.size(&sealed_path).await? {
            return Ok(length);
        }
        let mut length = 0;
        for chunk in self.chunks(attempt).await? {
            if chunk.offset > length {
                break;
            }
            length = length.max(chunk.end());
        }
        // The chunks may have moved into the sealed log while they were listed.
        Ok(self.size(&sealed_path).await?.unwrap_or(length))
    }

    /// The log from a position up to its present end.
    pub fn log_stream(
        &self,
        attempt: AttemptId,
        from: u64,
    ) -> impl Stream<Item = Result<Bytes, ResultError>> + Send + 'static + use<> {
        futures_util::stream::try_unfold((self.clone(), from), move |(store, from)| async move {
            let bytes = store.read_log(attempt, from, STREAM_PART).await?.bytes;
            let next = from.saturating_add(bytes.len() as u64);
            Ok((!bytes.is_empty()).then_some((bytes, (store, next))))
        })
    }

    /// The chunks of a log, by offset.
    pub(crate) async fn chunks(&self, attempt: AttemptId) -> Result<Vec<Chunk>, ResultError> {
        let mut chunks: Vec<Chunk> = self
            .list(&layout::log(attempt)?)
            .await?
            .into_iter()
            .filter_map(|object| {
                layout::chunk_offset(&object.location).map(|offset| Chunk {
                    offset,
                    size: object.size,
                })
            })
            .collect();
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        Ok(chunks)
    }

    async fn read_chunks(
        &self,
        attempt: AttemptId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Bytes, ResultError> {
        let mut found = BytesMut::new();
        while found.len() < max_bytes {
            let position = from.saturating_add(found.len() as u64);
            let wanted = max_bytes - found.len();
            // Readers mostly stand where a chunk begins, which spares the listing.
            let at_border = self
                .read_object(&layout::log_chunk(attempt, position)?, 0, wanted)
                .await?;
            match at_border {
                Some((bytes, _)) if !bytes.is_empty() => found.extend_from_slice(&bytes),
                _ if found.is_empty() => {
                    let bytes = self.read_covering(attempt, position, wanted).await?;
                    if bytes.is_empty() {
                        break;
                    }
                    found.extend_from_slice(&bytes);
                }
                _ => break,
            }
        }
        Ok(found.freeze())
    }

    async fn read_covering(
        &self,
        attempt: AttemptId,
        position: u64,
        wanted: usize,
    ) -> Result<Bytes, ResultError> {
        let chunks = self.chunks(attempt).await?;
        let Some(chunk) = chunks.into_iter().find(|chunk| chunk.covers(position)) else {
            return Ok(Bytes::new());
        };
        let path = layout::log_chunk(attempt, chunk.offset)?;
        let part = self
            .read_object(&path, position - chunk.offset, wanted)
            .await?;
        Ok(part.map(|(bytes, _)| bytes).unwrap_or_default())
    }

    /// Bytes of an object from a position on, and the object's size; none when there is no such object.
    pub(crate) async fn read_object(
        &self,
        path: &Path,
        from: u64,
        max_bytes: usize,
    ) -> Result<Option<(Bytes, u64)>, ResultError> {
        let Some(size) = self.size(path).await? else {
            return Ok(None);
        };
        let end = from.saturating_add(max_bytes as u64).min(size);
        if from >= end {
            return Ok(Some((Bytes::new(), size)));
        }
        let read = async {
            let options = GetOptions::new().with_range(Some(from..end));
            self.quick.get_opts(path, options).await?.bytes().await
        };
        match read.await {
            Ok(bytes) => Ok(Some((bytes, size))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(ResultError::of_store(path.to_string(), error)),
        }
    }
}
