//! Uploads the files of an attempt from the spool, a few at once, each until the frontend has it.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::{Outcome, OutcomeKind, Stage};
use millrace_wire::{ManifestFile, WaitsFor};

use crate::attempt::Attempt;
use crate::frontend::call_error::CallError;

/// Files of one attempt on their way at once.
const AT_ONCE: usize = 4;
/// Time between two tries while the result store is full, at first and at most: each sends a file in vain.
const FIRST_WHILE_FULL: Duration = Duration::from_secs(1);
const LONGEST_WHILE_FULL: Duration = Duration::from_mins(1);
/// A file is refused this often before it is given up.
const MAX_REFUSALS: u32 = 5;

/// Why uploading ended early.
#[derive(Debug)]
pub enum NotUploaded {
    /// The lease is gone.
    LeaseGone,
    /// The stop came first; the spool keeps the files.
    Stopped,
    /// The frontend does not take a file, or the spool lost it.
    Refused(Box<Outcome>),
}

/// One file on the spool.
#[derive(Debug, Clone)]
pub struct SpooledFile {
    /// Position of its package.
    pub position: u32,
    /// What it is.
    pub file: ManifestFile,
    /// Where it lies.
    pub path: PathBuf,
}

/// All files of an attempt.
pub fn all_files(attempt: &Attempt) -> Vec<SpooledFile> {
    let packages = attempt.record.packages.iter();
    packages
        .flat_map(|package| {
            let folder = attempt.folder.results(package.position);
            package.files.iter().map(move |file| SpooledFile {
                position: package.position,
                file: file.clone(),
                path: folder.join(file.name.as_str()),
            })
        })
        .collect()
}

/// Uploads files until all are there.
pub async fn upload(attempt: &Attempt, files: Vec<SpooledFile>) -> Result<(), NotUploaded> {
    stream::iter(files.into_iter().map(|file| upload_one(attempt, file)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map(|_| ())
}

async fn upload_one(attempt: &Attempt, file: SpooledFile) -> Result<(), NotUploaded> {
    let ctx = &attempt.ctx;
    let mut while_away = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    let mut while_full = Backoff::new(FIRST_WHILE_FULL, LONGEST_WHILE_FULL);
    let mut waiting = None;
    let mut refusals = 0;
    loop {
        let sent = tokio::select! {
            biased;
            () = attempt.running.revoked() => return Err(NotUploaded::LeaseGone),
            () = ctx.leaving.cancelled() => return Err(NotUploaded::Stopped),
            sent = send(attempt, &file) => sent,
        };
        let backoff = match sent {
            Ok(()) => {
                crash_point!("upload.done");
                return Ok(());
            }
            Err(CallError::LeaseGone) => return Err(NotUploaded::LeaseGone),
            Err(CallError::Away(reason)) => {
                tracing::info!(attempt.id = %attempt.running.id(), file = %file.file.name, "upload waits: {reason}");
                waiting = None;
                &mut while_away
            }
            Err(CallError::StoreFull(reason)) => {
                tracing::info!(attempt.id = %attempt.running.id(), file = %file.file.name, "upload waits for space: {reason}");
                if waiting.is_none() {
                    waiting = Some(attempt.running.waits_for(WaitsFor::ResultsSpace));
                    ctx.heartbeat_wake.notify_one();
                }
                &mut while_full
            }
            Err(error @ (CallError::Refused { .. } | CallError::Local(_))) => {
                refusals += 1;
                if refusals >= MAX_REFUSALS {
                    return Err(NotUploaded::Refused(Box::new(refused(&file, &error))));
                }
                tracing::warn!(attempt.id = %attempt.running.id(), file = %file.file.name, "upload failed: {error}");
                &mut while_away
            }
        };
        tokio::select! {
            () = attempt.running.revoked() => return Err(NotUploaded::LeaseGone),
            go_on = backoff.pause(&ctx.leaving) => if !go_on {
                return Err(NotUploaded::Stopped);
            }
        }
    }
}

async fn send(attempt: &Attempt, file: &SpooledFile) -> Result<(), CallError> {
    // The semaphore is never closed.
    let _permit = attempt.ctx.uploads.acquire().await.ok();
    let running = &attempt.running;
    let frontend = &attempt.ctx.frontend;
    crash_point!("upload.begun");
    frontend
        .send_file(
            running.id(),
            running.lease(),
            file.position,
            &file.file,
            &file.path,
        )
        .await
}

fn refused(file: &SpooledFile, error: &CallError) -> Outcome {
    Outcome::new(
        OutcomeKind::InternalError,
        format!(
            "the result {} could not be uploaded: {error}",
            file.file.name
        ),
    )
    .at(Stage::Upload)
}
