//! Writes the log of one attempt to the spool and tells how far it is.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millrace_chassis::CancellationToken;
use tokio::sync::{mpsc, watch};

use crate::log::INLINE;
use crate::mock::log_scan::{LogFacts, LogScanner};
use crate::spool::blocking::on_disk;

/// No log of an attempt grows beyond this, in bytes, however many packages it has: the frontend takes no more. One
/// package's log is kept short by the supervisor, at `MILLRACE_LOG_HEAD_MB` and `MILLRACE_LOG_TAIL_MB`.
const HARD_CAP: u64 = (4 << 30) - (64 << 10);
/// As much is written at once, in bytes.
const BATCH: usize = 256 << 10;

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the log to the spool: {0}")]
pub struct LogError(#[from] pub std::io::Error);

/// How much of a log is written, and whether more may come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogProgress {
    /// Bytes in the file.
    pub size: u64,
    /// Nothing more will come.
    pub ended: bool,
}

/// A log that is being written.
#[derive(Debug)]
pub struct SpooledLog {
    file: Arc<File>,
    written: watch::Sender<LogProgress>,
    cap: u64,
    left_out: u64,
    failed: CancellationToken,
}

impl SpooledLog {
    /// Opens a log; what is there stays.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_capped(path, HARD_CAP)
    }

    fn open_capped(path: &Path, cap: u64) -> Result<Self, LogError> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            written: watch::Sender::new(LogProgress { size, ended: false }),
            cap,
            left_out: 0,
            failed: CancellationToken::new(),
        })
    }

    /// Tells how far it is.
    pub fn progress(&self) -> watch::Receiver<LogProgress> {
        self.written.subscribe()
    }

    /// Cancelled when the disk does not take what a sandbox writes.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.written.borrow().size
    }

    /// Appends a line of the builder's own.
    pub async fn append_line(&mut self, line: &str) -> Result<(), LogError> {
        self.append(format!("millrace: {line}\n").as_bytes()).await
    }

    /// Appends bytes; beyond the cap they are counted and left out.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let size = self.size();
        let room = usize::try_from(self.cap.saturating_sub(size)).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        self.left_out += (bytes.len() - kept.len()) as u64;
        if let Err(error) = self.write(kept).await {
            // What was written of it is cut off, or the next bytes would not stand where they are counted.
            if let Err(error) = self.file.set_len(size) {
                tracing::error!("cannot cut a torn log: {error}");
            }
            return Err(error.into());
        }
        let size = size + kept.len() as u64;
        self.written
            .send_replace(LogProgress { size, ended: false });
        Ok(())
    }

    async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.len() <= INLINE {
            return (&*self.file).write_all(bytes);
        }
        let (file, bytes) = (Arc::clone(&self.file), bytes.to_vec());
        on_disk(move || (&*file).write_all(&bytes)).await
    }

    /// Takes in all that a sandbox writes, and gives what it told. When the disk fails, the sandbox is still read
    /// to its end, since a reader that pauses stalls the build.
    pub async fn spool_output(
        &mut self,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<LogFacts, LogError> {
        let mut reader = LogScanner::default();
        let mut failure = None;
        let mut batch: Vec<u8> = Vec::new();
        while let Some(piece) = pieces.recv().await {
            if failure.is_some() {
                continue;
            }
            batch.clear();
            batch.extend_from_slice(&piece);
            while batch.len() < BATCH
                && let Ok(piece) = pieces.try_recv()
            {
                batch.extend_from_slice(&piece);
            }
            reader.feed(self.size(), &batch);
            failure = self.append(&batch).await.err();
            if failure.is_some() {
                self.failed.cancel();
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(reader.finish()),
        }
    }

    /// Says that nothing more will come, also when the last line does not fit on the disk.
    pub async fn end(mut self) -> Result<u64, LogError> {
        let closed = self.close().await;
        let size = self.size();
        self.written.send_replace(LogProgress { size, ended: true });
        closed.map(|()| size)
    }

    async fn close(&mut self) -> Result<(), LogError> {
        if self.left_out > 0 {
            let note = format!(
                "\nmillrace: the log is too large; {} bytes from here on were left out\n",
                self.left_out
            );
            self.cap = u64::MAX;
            self.append(note.as_bytes()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = SpooledLog::open(&path).unwrap();
        log.append(b"one\n").await.unwrap();
        drop(log);
        let mut log = SpooledLog::open(&path).unwrap();
        assert_eq!(log.size(), 4);
        log.append_line("two").await.unwrap();
        let progress = log.progress();
        assert_eq!(log.end().await.unwrap(), 18);
        assert_eq!(
            *progress.borrow(),
            LogProgress {
                size: 18,
                ended: true
            }
        );
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "one\nmillrace: two\n"
        );
    }

    #[tokio::test]
    async fn what_is_beyond_the_cap_is_counted_in_a_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = SpooledLog::open_capped(&path, 6).unwrap();
        log.append(b"1234").await.unwrap();
        log.append(b"5678").await.unwrap();
        log.append(b"9").await.unwrap();
        log.end().await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("123456\nmillrace:"), "{text}");
        assert!(text.contains("3 bytes"), "{text}");
    }

    #[tokio::test]
    async fn a_log_whose_disk_is_full_ends_all_the_same() {
        // Every write to it says that no space is left.
        let mut log = SpooledLog::open_capped(Path::new("/dev/full"), 4).unwrap();
        assert!(log.append(b"1234").await.is_err());
        assert_eq!(log.size(), 0);
        log.left_out = 1;
        let progress = log.progress();
        assert!(log.end().await.is_err());
        assert!(progress.borrow().ended, "nobody waits for more");
    }

    #[tokio::test]
    async fn a_sandboxes_output_is_kept_and_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = SpooledLog::open(&path).unwrap();
        log.append_line("a line before").await.unwrap();
        let (pieces, taken) = mpsc::channel(8);
        for piece in ["fine\nfoo.c:1: er", "ror: bad\n", "end"] {
            pieces.send(Bytes::from(piece)).await.unwrap();
        }
        drop(pieces);
        let facts = log.spool_output(taken).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let error = facts.first_error.unwrap();
        assert_eq!(error.text, "foo.c:1: error: bad");
        let at = usize::try_from(error.log_offset).unwrap();
        assert!(text[at..].starts_with("foo.c:1: error: bad\nend"));
    }
}
