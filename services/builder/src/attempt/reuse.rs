//! Packages that an earlier attempt of the task finished. Their files become this attempt's, so that its report is
//! whole and packages behind them find them. What cannot be had is built anew: a retry never depends on it.

use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt};
use millrace_domain::Stage;
use millrace_wire::{FinishedBefore, JobSource, ManifestFile, PackageReport};
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::attempt::outcome::{Unfinished, disk_failed};
use crate::attempt::package::log_line;
use crate::frontend::call_error::CallError;
use crate::frontend::transfer;
use crate::log::spool::SpooledLog;
use crate::spool::blocking::on_disk;

/// How long the files of one package are asked for.
const FETCH_TIMEOUT: Duration = Duration::from_mins(1);

/// Takes over what is to be had of a source; tells whether it was.
pub async fn reuse_finished(
    attempt: &mut Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
) -> Result<bool, Unfinished> {
    let Some(finished) = &source.finished else {
        return Ok(false);
    };
    let fetched = tokio::select! {
        biased;
        interrupt = attempt.running.interrupted(&attempt.ctx.shutdown) => return Err(interrupt.into()),
        fetched = fetch(attempt, source, finished) => fetched,
    };
    if let Err(error) = fetched {
        if let CallError::Local(error) = &error {
            return Err(disk_failed(error, Stage::Fetch).into());
        }
        let line = format!(
            "{} is built again, since what an earlier attempt made of it cannot be had: {error}",
            source.name
        );
        log_line(attempt, log, &line).await;
        return Ok(false);
    }
    let line = format!(
        "{} is taken over from an earlier attempt: {}",
        source.name, finished.outcome.kind
    );
    log_line(attempt, log, &line).await;
    attempt.record.packages.push(PackageReport {
        position: source.position,
        source: source.name.clone(),
        outcome: finished.outcome.clone(),
        files: finished.files.clone(),
    });
    Ok(true)
}

async fn fetch(
    attempt: &Attempt,
    source: &JobSource,
    finished: &FinishedBefore,
) -> Result<(), CallError> {
    let give_up = Instant::now() + FETCH_TIMEOUT;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    let position = source.position;
    loop {
        let folder = attempt.folder.clone();
        on_disk(move || folder.make_results(position)).await?;
        let mut fetched = Ok(());
        for file in &finished.files {
            fetched = fetch_file(attempt, position, finished, file).await;
            if fetched.is_err() {
                break;
            }
        }
        let pause = backoff.next_delay();
        match fetched {
            Err(CallError::Away(_) | CallError::StoreFull(_))
                if Instant::now() + pause < give_up =>
            {
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                let folder = attempt.folder.clone();
                on_disk(move || folder.remove_results(position)).await?;
                return Err(error);
            }
            Ok(()) => return Ok(()),
        }
    }
}

async fn fetch_file(
    attempt: &Attempt,
    position: u32,
    finished: &FinishedBefore,
    file: &ManifestFile,
) -> Result<(), CallError> {
    let frontend = &attempt.ctx.frontend;
    let response = frontend
        .result(finished.attempt_id, position, &file.name)
        .await?;
    let to = attempt.folder.results(position).join(file.name.as_str());
    let (_, sha256) = transfer::download(response, &to, file.size).await?;
    if sha256 == file.sha256 {
        Ok(())
    } else {
        Err(CallError::Away(format!(
            "{} arrived with the digest {sha256}, expected {}",
            file.name, file.sha256
        )))
    }
}
