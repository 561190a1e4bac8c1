//! What an earlier process left in the spool. What had reached the finish line goes on from there. What had not is
//! reported as `builder_lost` with the packages that were finished and the log it had, and what was not even claimed for sure is asked for and handed
//! back. Sandboxes of the earlier process were swept before.

use std::sync::Arc;

use millrace_chassis::{BackoffExt, crash_point};
use millrace_domain::{Outcome, OutcomeKind, Phase, Token};
use millrace_wire::{ClaimRequest, JobSource, PackageReport};

use crate::attempt::Attempt;
use crate::attempt::build_packages::BuiltPackages;
use crate::attempt::finish;
use crate::attempt_registry::RunningAttempt;
use crate::context::Context;
use crate::frontend::call_error::CallError;
use crate::frontend::client::Claimed;
use crate::log::ship::ship;
use crate::log::spool::{LogError, SpooledLog};
use crate::spool::{AttemptFolder, Found, Record};

/// An attempt of an earlier process, known to this one from here on.
pub enum Adopted {
    /// Claimed for sure.
    Claimed(Box<Attempt>),
    /// The answer to its claim was lost.
    LostClaim(Arc<Context>, Box<Found>),
}

/// Makes an attempt known before the first order is taken: the same order may be delivered again at once.
pub fn adopt(ctx: &Arc<Context>, found: Found) -> Option<Adopted> {
    let id = found.record.job.attempt_id;
    let ctx = Arc::clone(ctx);
    let Some(lease) = found.record.lease_token.clone() else {
        ctx.registry.insert_unanswered(id);
        return Some(Adopted::LostClaim(ctx, Box::new(found)));
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

/// Goes on with an attempt of an earlier process.
pub async fn recover(adopted: Adopted) {
    match adopted {
        Adopted::Claimed(attempt) => resume(*attempt).await,
        Adopted::LostClaim(ctx, found) => {
            hand_back_unanswered(ctx, found.folder, found.record).await;
        }
    }
}

async fn resume(attempt: Attempt) {
    let id = attempt.running.id();
    match attempt.folder.read_report() {
        Ok(Some(report)) => {
            tracing::info!(attempt.id = %id, "reporting again what was reported before the restart");
            attempt.running.advance(Phase::Spooled);
            return finish::finish_reported(attempt, report).await;
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(attempt.id = %id, "cannot read a report in the spool: {error}");
        }
    }
    crash_point!("recovery.begun");
    let mut attempt = attempt;
    if attempt.record.phase >= Phase::Spooled {
        tracing::info!(attempt.id = %id, "going on with the uploads after the restart");
    } else {
        tracing::warn!(attempt.id = %id, "the sandbox ended with the earlier process, reporting the attempt as lost");
        record_lost(&mut attempt);
    }
    match resume_log(&attempt).await {
        Ok(built) => finish::finish(attempt, built).await,
        Err(error) => {
            tracing::error!(attempt.id = %id, "dropping an attempt whose log cannot be read: {error}");
            attempt.forget().await;
        }
    }
}

/// The outcome of an attempt whose sandbox is gone.
fn record_lost(attempt: &mut Attempt) {
    let mut outcome = Outcome::new(
        OutcomeKind::BuilderLost,
        format!(
            "the builder {} was restarted while it was building",
            attempt.ctx.name
        ),
    );
    outcome.stage = attempt.running.stages().last().map(|stage| stage.name);
    // What was finished is on the spool; the first of the others tells of the loss.
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
        shipping: tokio::spawn(ship(attempt.shipment(), progress, leaving)),
    })
}

/// The answer to a claim was lost with the earlier process. The same nonce gets the same answer; what turns out to
/// be ours is handed back, since nothing was begun.
async fn hand_back_unanswered(ctx: Arc<Context>, folder: AttemptFolder, record: Record) {
    let claim = ClaimRequest {
        attempt_id: record.job.attempt_id,
        nonce: record.nonce.clone(),
    };
    crash_point!("recovery.unsure");
    match claim_until(&ctx, &claim).await {
        // The next start asks again.
        LostClaim::Still => ctx.registry.forget(claim.attempt_id),
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
            ctx.registry.forget(claim.attempt_id);
            if let Err(error) = folder.remove() {
                tracing::warn!(attempt.id = %claim.attempt_id, "cannot remove an attempt from the spool: {error}");
            }
        }
    }
}

/// Whose an attempt is whose claim had no answer.
enum LostClaim {
    Ours(Token),
    NotOurs,
    Still,
}

async fn claim_until(ctx: &Context, claim: &ClaimRequest) -> LostClaim {
    let mut backoff = millrace_chassis::Backoff::new(
        std::time::Duration::from_millis(200),
        std::time::Duration::from_secs(5),
    );
    loop {
        match ctx.frontend.claim(claim).await {
            Ok(Claimed::Granted(granted)) => return LostClaim::Ours(granted.lease_token),
            Ok(Claimed::Refused(_))
            | Err(CallError::LeaseGone | CallError::Refused { .. } | CallError::Local(_)) => {
                return LostClaim::NotOurs;
            }
            Err(CallError::Away(reason) | CallError::StoreFull(reason)) => {
                tracing::debug!(attempt.id = %claim.attempt_id, "the frontend is away: {reason}");
            }
        }
        if !backoff.pause(&ctx.leaving).await {
            return LostClaim::Still;
        }
    }
}
