//! Large bodies between spool and frontend. A transfer may take as long as it needs, but not stand still: what has
//! not moved for a minute is given up, to be tried again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use millrace_chassis::{Body, Response};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use crate::frontend::call_error::CallError;

/// How long a transfer may stand still.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Piece of a file that is read at once, in bytes.
const READ_BYTES: usize = 128 << 10;

/// Counts the bytes of a transfer.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

/// A file as a request's body.
pub async fn upload(path: &Path) -> std::io::Result<(Body, Progress)> {
    let file = File::open(path).await?;
    let progress = Progress::default();
    let count = progress.clone();
    let stream = ReaderStream::with_capacity(file, READ_BYTES).inspect(move |piece| {
        if let Ok(piece) = piece {
            count.0.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    Ok((Body::wrap_stream(stream), progress))
}

/// Waits for a call, as long as its transfer moves. The answer may take one stall's time after the last byte,
/// in which the frontend syncs the file.
pub async fn while_moving<T>(
    progress: Progress,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let mut call = std::pin::pin!(call);
    loop {
        let before = progress.0.load(Ordering::Relaxed);
        tokio::select! {
            answer = &mut call => return answer,
            () = tokio::time::sleep(STALL_TIMEOUT) => {
                if progress.0.load(Ordering::Relaxed) == before {
                    return Err(CallError::Away(format!("the upload stood still for {} s", STALL_TIMEOUT.as_secs())));
                }
            }
        }
    }
}

/// Writes an answer's body to a file under a cap; gives size and SHA-256 in hexadecimal.
pub async fn download(
    mut response: Response,
    to: &Path,
    cap: u64,
) -> Result<(u64, String), CallError> {
    let mut file = File::create(to).await?;
    let mut digest = Sha256::new();
    let mut size = 0;
    loop {
        let piece = tokio::time::timeout(STALL_TIMEOUT, response.chunk())
            .await
            .map_err(|_| CallError::Away("the download stood still".to_owned()))?
            .map_err(|error| {
                CallError::Away(format!("the download broke off: {}", error.without_url()))
            })?;
        let Some(piece) = piece else { break };
        size += piece.len() as u64;
        if size > cap {
            return Err(CallError::Refused {
                status: 413,
                reason: format!("the source is larger than the {cap} bytes that are accepted"),
            });
        }
        digest.update(&piece);
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    Ok((size, hex::encode(digest.finalize())))
}
