//! Uploads the files of an attempt from the spool, up to four at once. Each is tried again until the frontend has it.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::{Outcome, OutcomeKind, Stage};
use millrace_wire::{ManifestFile, WaitsFor};

use crate::attempt::Attempt;
use crate::frontend::call_error::CallError;

/// Files of one attempt that are uploaded at once.
const AT_ONCE: usize = 4;
/// The first pause between two tries while the result store is full: each try sends a whole file.
const FIRST_WHILE_FULL: Duration = Duration::from_secs(1);
/// The longest pause between two tries while the result store is full.
const LONGEST_WHILE_FULL: Duration = Duration::from_mins(1);
/// Refusals of one file after which it is given up.
const MAX_REFUSALS: u32 = 5;

/// Why uploading ended early.
#[derive(Debug)]
pub enum NotUploaded {
    /// The frontend has revoked the lease: the attempt is closed for this builder.
    LeaseGone,
    /// The builder stops; the files stay in the spool.
    Stopped,
    /// The frontend refuses a file for good, or it cannot be read from the spool; the outcome to report.
    Refused(Box<Outcome>),
}

/// One file on the spool.
#[derive(Debug, Clone)]
pub struct SpooledFile {
    /// Position of its package in the build.
    pub position: u32,
    /// Name, size and digest.
    pub file: ManifestFile,
    /// Path in the spool.
    pub path: PathBuf,
}

/// The result files of all packages of an attempt.
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

/// Uploads files until the frontend has all of them, or one cannot be uploaded.
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
                crash_point("upload.done");
                return Ok(());
            }
            Err(CallError::LeaseGone) => return Err(NotUploaded::LeaseGone),
            Err(CallError::Away(reason)) => {
                tracing::info!(file = %file.file.name, "the frontend does not answer, the upload waits: {reason}");
                waiting = None;
                &mut while_away
            }
            Err(CallError::StoreFull(reason)) => {
                tracing::info!(file = %file.file.name, "the result store is full, the upload waits: {reason}");
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
                tracing::warn!(file = %file.file.name, "the upload failed, trying again: {error}");
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
    crash_point("upload.begun");
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
