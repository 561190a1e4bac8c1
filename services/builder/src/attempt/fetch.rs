//! Fetches the source of one package: an uploaded one from the frontend by its digest, any other from outside
//! through the guarded client. What may pass is tried again for some minutes.

use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt, FetchError};
use millrace_domain::{Outcome, OutcomeKind, Stage};
use millrace_wire::{JobSource, SourceOrigin};
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::attempt::outcome::{Unfinished, disk_failed};
use crate::attempt::srpm::{self, SrpmError};
use crate::frontend::call_error::CallError;
use crate::frontend::transfer;
use crate::spool::blocking::on_disk;

/// Why one try failed.
enum FetchFault {
    /// It may work a little later.
    Transient(String),
    /// It will not.
    Permanent(Box<Outcome>),
}

/// Puts the source of a package into the attempt's folder, checked.
pub async fn fetch(attempt: &Attempt, source: &JobSource) -> Result<(), Unfinished> {
    tokio::select! {
        biased;
        interrupt = attempt.running.interrupted(&attempt.ctx.shutdown) => Err(interrupt.into()),
        fetched = fetch_with_retries(attempt, source) => fetched,
    }
}

async fn fetch_with_retries(attempt: &Attempt, source: &JobSource) -> Result<(), Unfinished> {
    let give_up = Instant::now() + attempt.ctx.fetch_retry_time;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
    loop {
        let reason = match fetch_once(attempt, source).await {
            Ok(()) => return check(attempt, source).await,
            Err(FetchFault::Permanent(outcome)) => return Err(Unfinished::Failed(outcome)),
            Err(FetchFault::Transient(reason)) => reason,
        };
        let pause = backoff.next_delay();
        if Instant::now() + pause >= give_up {
            return Err(failed(source, &reason).into());
        }
        tracing::info!(attempt.id = %attempt.running.id(), source = %source.name, "the source is tried again: {reason}");
        tokio::time::sleep(pause).await;
    }
}

async fn fetch_once(attempt: &Attempt, source: &JobSource) -> Result<(), FetchFault> {
    let (size, sha256) = match &source.origin {
        SourceOrigin::Stored { sha256 } => fetch_stored(attempt, source, sha256).await?,
        SourceOrigin::Url { url } => fetch_outside(attempt, source, url.as_str()).await?,
    };
    if let SourceOrigin::Stored { sha256: expected } = &source.origin
        && *expected != sha256
    {
        return Err(FetchFault::Transient(format!(
            "the stored source has the digest {sha256}, expected {expected}"
        )));
    }
    match source.size {
        Some(expected) if expected != size => Err(permanent(
            source,
            &format!("it has {size} bytes, expected {expected}"),
        )),
        _ => Ok(()),
    }
}

async fn fetch_stored(
    attempt: &Attempt,
    source: &JobSource,
    sha256: &str,
) -> Result<(u64, String), FetchFault> {
    let stored = async {
        let response = attempt.ctx.frontend.source(sha256).await?;
        let cap = attempt.ctx.sandboxes.max_source_bytes;
        transfer::download(response, &attempt.folder.source(source.position), cap).await
    };
    stored.await.map_err(|error| match error {
        CallError::Away(reason) | CallError::StoreFull(reason) => FetchFault::Transient(reason),
        CallError::Local(error) => {
            FetchFault::Permanent(Box::new(disk_failed(&error, Stage::Fetch)))
        }
        CallError::Refused { status: 404, .. } => permanent(
            source,
            "the frontend does not have the uploaded file any more",
        ),
        CallError::Refused { .. } | CallError::LeaseGone => permanent(source, &error.to_string()),
    })
}

async fn fetch_outside(
    attempt: &Attempt,
    source: &JobSource,
    url: &str,
) -> Result<(u64, String), FetchFault> {
    match attempt
        .ctx
        .fetcher
        .fetch_to_file(url, &attempt.folder.source(source.position))
        .await
    {
        Ok(fetched) => Ok((fetched.size, fetched.sha256)),
        Err(FetchError::Write(error)) => Err(FetchFault::Permanent(Box::new(disk_failed(
            &error,
            Stage::Fetch,
        )))),
        Err(error) if error.is_transient() => Err(FetchFault::Transient(error.to_string())),
        Err(error) => Err(permanent(source, &error.to_string())),
    }
}

/// Looks at what was fetched before a sandbox is spent on it.
async fn check(attempt: &Attempt, source: &JobSource) -> Result<(), Unfinished> {
    let path = attempt.folder.source(source.position);
    let checked = on_disk(move || Ok(srpm::check(&path)))
        .await
        .unwrap_or_else(|error| Err(SrpmError::Io(error)));
    match checked {
        Ok(found) => match found.refusal(attempt.record.job.chroot.name.arch()) {
            Some(list) => Err(skipped(&list).into()),
            None => Ok(()),
        },
        Err(SrpmError::Io(error)) => Err(disk_failed(&error, Stage::Fetch).into()),
        Err(error) => Err(failed(source, &error.to_string()).into()),
    }
}

fn skipped(list: &str) -> Outcome {
    Outcome::new(
        OutcomeKind::Skipped,
        format!("the package is not built for this architecture ({list})"),
    )
}

fn permanent(source: &JobSource, reason: &str) -> FetchFault {
    FetchFault::Permanent(Box::new(failed(source, reason)))
}

fn failed(source: &JobSource, reason: &str) -> Outcome {
    let from = match &source.origin {
        SourceOrigin::Stored { .. } => source.name.as_str(),
        SourceOrigin::Url { url } => url.as_str(),
    };
    Outcome::new(
        OutcomeKind::SourceFailed,
        format!("cannot use the source {from}: {reason}"),
    )
    .at(Stage::Fetch)
}
