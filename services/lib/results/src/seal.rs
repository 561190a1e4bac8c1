//! Sealing a log: its chunks become one object, which is what is kept.

use bytes::Bytes;
use millrace_domain::AttemptId;
use object_store::path::Path;
use object_store::{ObjectStore, RenameOptions, RenameTargetMode};

use crate::error::ResultError;
use crate::layout;
use crate::log::Chunk;
use crate::staging::Upload;
use crate::store::ResultStore;

/// How much of a chunk is copied at once.
const COPY_SIZE: usize = 1 << 20;

impl ResultStore {
    /// Ends a log and gives its length. A gap is filled, so that offsets stay true, with a line that names it.
    /// Sealing twice is sealing once. To be called when no more is expected: bytes that arrive while
    /// this runs may be lost.
    pub async fn seal_log(&self, attempt: AttemptId) -> Result<u64, ResultError> {
        let name = layout::sealed_log(attempt)?;
        if self.size(&name).await?.is_none() {
            let chunks = self.chunks(attempt).await?;
            let joined = match chunks.as_slice() {
                [only] if only.offset == 0 => self.rename_chunk(attempt, *only, &name).await,
                _ => self.join_chunks(attempt, &name).await,
            };
            // Another seal at the same time may have removed the chunks meanwhile.
            if joined.is_err() && self.size(&name).await?.is_none() {
                joined?;
            }
        }
        for chunk in self.chunks(attempt).await? {
            self.remove(&layout::log_chunk(attempt, chunk.offset)?)
                .await?;
        }
        self.size(&name)
            .await?
            .ok_or_else(|| ResultError::NotFound(format!("the log of attempt {attempt}")))
    }

    /// A log of one piece gets its name as it is. It is not synced, as no piece of a log is.
    async fn rename_chunk(
        &self,
        attempt: AttemptId,
        chunk: Chunk,
        name: &Path,
    ) -> Result<(), ResultError> {
        let piece = layout::log_chunk(attempt, chunk.offset)?;
        let options = RenameOptions::new().with_target_mode(RenameTargetMode::Create);
        match self.quick.rename_opts(&piece, name, options).await {
            Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(ResultError::of_store(name.to_string(), error)),
        }
    }

    async fn join_chunks(&self, attempt: AttemptId, name: &Path) -> Result<(), ResultError> {
        let mut upload = Upload::begin(self).await?;
        let mut length = 0;
        for chunk in self.chunks(attempt).await? {
            if chunk.offset > length {
                fill_gap(&mut upload, chunk.offset - length).await?;
                length = chunk.offset;
            }
            self.copy_chunk(attempt, chunk, length, &mut upload).await?;
            length = length.max(chunk.end());
        }
        let staged = upload.finish().await?;
        // Of two that seal at once, the second may have seen only a part of the chunks: the first one counts.
        let options = RenameOptions::new().with_target_mode(RenameTargetMode::Create);
        match self.durable.rename_opts(&staged.path, name, options).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => self.remove(&staged.path).await,
            Err(error) => {
                self.remove(&staged.path).await?;
                Err(ResultError::of_store(name.to_string(), error))
            }
        }
    }

    async fn copy_chunk(
        &self,
        attempt: AttemptId,
        chunk: Chunk,
        from: u64,
        upload: &mut Upload,
    ) -> Result<(), ResultError> {
        let path = layout::log_chunk(attempt, chunk.offset)?;
        let mut position = from;
        while position < chunk.end() {
            let wanted = usize::try_from(chunk.end() - position)
                .unwrap_or(COPY_SIZE)
                .min(COPY_SIZE);
            match self
                .read_object(&path, position - chunk.offset, wanted)
                .await?
            {
                Some((bytes, _)) if !bytes.is_empty() => {
                    position += bytes.len() as u64;
                    upload.write(bytes).await?;
                }
                _ => return Err(ResultError::NotFound(path.to_string())),
            }
        }
        Ok(())
    }
}

/// Writes exactly `length` bytes that read as one line.
async fn fill_gap(upload: &mut Upload, length: u64) -> Result<(), ResultError> {
    let text = format!("[millrace: {length} bytes of the log did not arrive]");
    let mut left = length;
    if length > text.len() as u64 {
        left -= text.len() as u64;
        upload.write(text.into()).await?;
    }
    let blanks = Bytes::from(vec![b' '; COPY_SIZE]);
    while left > 1 {
        let size = usize::try_from(left - 1)
            .unwrap_or(COPY_SIZE)
            .min(COPY_SIZE);
        upload.write(blanks.slice(..size)).await?;
        left -= size as u64;
    }
    upload.write(Bytes::from_static(b"\n")).await
}
