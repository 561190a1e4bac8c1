//! Takes results out of an ended sandbox through the engine's archive call, as a stream.

use std::io::{self, Read};
use std::path::Path;

use bollard::query_parameters::DownloadFromContainerOptions;
use futures_util::{StreamExt, TryStreamExt};
use tar::{Archive, EntryType};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::engine::Engine;
use crate::error::{SandboxError, status};
use crate::result_files::{CollectCaps, Collected, LOGS, Spool};

/// Takes the files of a folder of the container out into the spool folder. A folder that is not there
/// has no files.
pub(crate) async fn collect(
    container: (&Engine, &str),
    result_dir: &str,
    spool_dir: &Path,
    caps: CollectCaps,
) -> Result<Collected, SandboxError> {
    let spool = Spool::new(spool_dir, caps);
    let Some(archive) = open(container, result_dir).await? else {
        return Ok(spool.finish());
    };
    let (mut spool, is_whole) = take_all(archive, spool).await?;
    if !is_whole {
        for log in LOGS {
            if spool.has(log) {
                continue;
            }
            // That a log is not there is no fault: mock did not come so far.
            if let Some(archive) = open(container, &format!("{result_dir}/{log}")).await? {
                (spool, _) = take_all(archive, spool).await?;
            }
        }
    }
    Ok(spool.finish())
}

/// Reads one small file of a container whole; none when it is not there, no file, or larger than the cap.
pub(crate) async fn read_small(
    container: (&Engine, &str),
    path: &str,
    cap: u64,
) -> Result<Option<Vec<u8>>, SandboxError> {
    let Some(archive) = open(container, path).await? else {
        return Ok(None);
    };
    read(archive, move |archive| {
        let mut archive = Archive::new(archive);
        let Some(entry) = archive.entries()?.next() else {
            return Ok(None);
        };
        let entry = entry?;
        if entry.header().entry_type() != EntryType::Regular || entry.size() > cap {
            return Ok(None);
        }
        let mut content = Vec::new();
        entry.take(cap).read_to_end(&mut content)?;
        Ok(Some(content))
    })
    .await
}

async fn take_all(
    archive: impl Read + Send + 'static,
    mut spool: Spool,
) -> Result<(Spool, bool), SandboxError> {
    read(archive, move |archive| {
        let is_whole = spool.take_all(archive)?;
        Ok((spool, is_whole))
    })
    .await
}

/// Opens the archive of a path in a container; none when there is no such path. Its reader blocks.
async fn open(
    (engine, container): (&Engine, &str),
    path: &str,
) -> Result<Option<impl Read + Send + 'static>, SandboxError> {
    let options = DownloadFromContainerOptions {
        path: path.to_owned(),
    };
    let stream = engine
        .docker
        .download_from_container(container, Some(options));
    let mut stream = Box::pin(Box::pin(stream).peekable());
    if let Some(Err(fault)) = stream.as_mut().peek().await {
        let is_container_gone = fault
            .to_string()
            .to_lowercase()
            .contains("no such container");
        if status(fault) == Some(404) && !is_container_gone {
            return Ok(None);
        }
        return Err(SandboxError::about(container, "reading its results", fault));
    }
    let reader = StreamReader::new(stream.map_err(io::Error::other));
    Ok(Some(SyncIoBridge::new(reader)))
}

/// Runs blocking work on an archive.
async fn read<R: Read + Send + 'static, T: Send + 'static>(
    mut archive: R,
    work: impl FnOnce(&mut R) -> io::Result<T> + Send + 'static,
) -> Result<T, SandboxError> {
    let failed = |reason: String| SandboxError::CollectFailed { reason };
    tokio::task::spawn_blocking(move || work(&mut archive))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}
