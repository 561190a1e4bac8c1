//! Attempts that an earlier process left in the spool:
//!
//! - with results in the spool, or a report: upload and report go on;
//! - claimed, but not finished: reported as `builder_lost`, with the packages that were finished and the log so far;
//! - claimed without an answer: the claim is repeated, and an attempt that turns out to be this builder's is handed back.
//!
//! Sandboxes of the earlier process are removed before this runs.

use std::sync::Arc;
use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::{AttemptId, Outcome, OutcomeKind, Phase, Token};
use millrace_wire::{ClaimRequest, JobSource, PackageReport};
use tracing::Instrument as _;

use crate::attempt::build_packages::BuiltPackages;
use crate::attempt::finish;
use crate::attempt::{self, Attempt};
use crate::attempt_registry::RunningAttempt;
use crate::context::Context;
use crate::frontend::call_error::CallError;
use crate::frontend::client::Claimed;
use crate::log::ship::ship;
use crate::log::spool::{LogError, SpooledLog};
use crate::spool::{AttemptFolder, Found, Record};

/// An attempt of an earlier process that is in this one's registry.
pub enum Adopted {
    /// The spool has its lease.
    Claimed(Box<Attempt>),
    /// The earlier process ended before the answer to its claim.
    ClaimUnanswered(Arc<Context>, Box<Found>),
}

impl Adopted {
    fn id(&self) -> AttemptId {
        match self {
            Self::Claimed(attempt) => attempt.running.id(),
            Self::ClaimUnanswered(_, found) => found.record.job.attempt_id,
        }
    }
}

/// Puts an attempt into the registry. This comes before the first job is taken, since the same job may be delivered
/// again at once.
pub fn adopt(ctx: &Arc<Context>, found: Found) -> Option<Adopted> {
    let id = found.record.job.attempt_id;
    let ctx = Arc::clone(ctx);
    let Some(lease) = found.record.lease_token.clone() else {
        ctx.registry.insert_unanswered(id);
        return Some(Adopted::ClaimUnanswered(ctx, Box::new(found)));
    };
    let Found { folder, record } = found;
    let running = RunningAttempt::new(id, lease, record.phase, record.stages.clone());
    ctx.registry.insert(&running).then(|| {
        Adopted::Claimed(Box::new(Attempt {
            ctx,
            running,
            folder,
            record,
        }))
    })
}

/// Goes on with an attempt of an earlier process until it is closed.
pub async fn recover(adopted: Adopted) {
    let span = attempt::span(adopted.id());
    match adopted {
        Adopted::Claimed(attempt) => resume(*attempt).instrument(span).await,
        Adopted::ClaimUnanswered(ctx, found) => {
            hand_back_unanswered(ctx, found.folder, found.record)
                .instrument(span)
                .await;
        }
    }
}

async fn resume(attempt: Attempt) {
    match attempt.folder.read_report() {
        Ok(Some(report)) => {
            tracing::info!("sending the report again that was written before the restart");
            attempt.running.advance(Phase::Spooled);
            return finish::finish_reported(attempt, report).await;
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!("cannot read a report in the spool: {error}");
        }
    }
    crash_point("recovery.begun");
    let mut attempt = attempt;
    if attempt.record.phase >= Phase::Spooled {
        tracing::info!("going on with the uploads after the restart");
    } else {
        tracing::warn!("the restart ended the sandbox of this attempt, reporting it as lost");
        record_lost(&mut attempt);
    }
    match resume_log(&attempt).await {
        Ok(built) => finish::finish(attempt, built).await,
        Err(error) => {
            tracing::error!("dropping an attempt whose log cannot be read: {error}");
            attempt.forget().await;
        }
    }
}

/// Gives the first unfinished package the outcome `builder_lost`; finished packages keep theirs.
fn record_lost(attempt: &mut Attempt) {
    let mut outcome = Outcome::new(
        OutcomeKind::BuilderLost,
        format!(
            "the builder {} was restarted while it was building",
            attempt.ctx.name
        ),
    );
    outcome.stage = attempt.running.stages().last().map(|stage| stage.name);
    let record = &mut attempt.record;
    let finished = &mut record.packages;
    finished.retain(|package| package.outcome.kind.is_success());
    let is_open = |source: &&JobSource| !finished.iter().any(|p| p.position == source.position);
    let lost = record.job.sources.iter().find(is_open);
    let lost = lost.map(|source| PackageReport {
        position: source.position,
        source: source.name.clone(),
        outcome,
        files: Vec::new(),
    });
    finished.extend(lost);
    finished.sort_by_key(|package| package.position);
    attempt.running.advance(Phase::Spooled);
}

/// Opens the log again, ends it, and ships the part that the frontend does not have.
async fn resume_log(attempt: &Attempt) -> Result<BuiltPackages, LogError> {
    let mut log = SpooledLog::open(&attempt.folder.log())?;
    if attempt.record.phase < Phase::Spooled {
        log.append_line("the builder was restarted; this attempt ends here")
            .await?;
    }
    let progress = log.progress();
    log.end().await?;
    let leaving = attempt.ctx.leaving.clone();
    Ok(BuiltPackages {
        shipping: tokio::spawn(ship(attempt.shipment(), progress, leaving).in_current_span()),
    })
}

/// Repeats a claim whose answer the earlier process did not see: the same nonce gets the same answer. An attempt that is
/// this builder's is handed back, since nothing of its work had begun.
async fn hand_back_unanswered(ctx: Arc<Context>, folder: AttemptFolder, record: Record) {
    let claim = ClaimRequest {
        attempt_id: record.job.attempt_id,
        nonce: record.nonce.clone(),
    };
    crash_point("recovery.unsure");
    match claim_until(&ctx, &claim).await {
        // The next start asks again.
        LostClaim::Unknown => ctx.registry.remove(claim.attempt_id),
        LostClaim::Ours(lease) => {
            let running = RunningAttempt::new(claim.attempt_id, lease, Phase::Fetching, Vec::new());
            let attempt = Attempt {
                ctx,
                running,
                folder,
                record,
            };
            attempt.hand_back().await;
        }
        LostClaim::NotOurs => {
            ctx.registry.remove(claim.attempt_id);
            if let Err(error) = folder.remove() {
                tracing::warn!("cannot remove an attempt from the spool: {error}");
            }
        }
    }
}

/// The answer to a repeated claim.
enum LostClaim {
    /// The attempt is this builder's, under this lease.
    Ours(Token),
    NotOurs,
    /// The builder stops and the frontend has not answered.
    Unknown,
}

/// Claims until the frontend answers or the builder leaves.
async fn claim_until(ctx: &Context, claim: &ClaimRequest) -> LostClaim {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match ctx.frontend.claim(claim).await {
            Ok(Claimed::Granted(granted)) => return LostClaim::Ours(granted.lease_token),
            Ok(Claimed::Refused(_))
            | Err(CallError::LeaseGone | CallError::Refused { .. } | CallError::Local(_)) => {
                return LostClaim::NotOurs;
            }
            Err(CallError::Away(reason) | CallError::StoreFull(reason)) => {
                tracing::debug!("the frontend does not answer the claim yet: {reason}");
            }
        }
        if !backoff.pause(&ctx.leaving).await {
            return LostClaim::Unknown;
        }
    }
}
