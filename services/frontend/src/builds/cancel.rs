//! Cancels a build. Tasks that no builder has end at once. Builders of the others are asked to stop: by a hint now, and
//! by the answer to their next heartbeat in any case. Attempts of a builder that sends no heartbeats are revoked at
//! once; its later reports are refused.

use millrace_chassis::crash_point;
use millrace_domain::BuildId;
use millrace_store::CancelResult;

use crate::error::ApiError;
use crate::state::AppState;

/// Cancels a build; an error when there is no such build or it has ended.
pub async fn cancel(state: &AppState, build: BuildId) -> Result<(), ApiError> {
    let silent_seconds = state.settings.config.leases.silent_seconds;
    crash_point("cancel.unstored");
    match state.store.cancel_build(build, silent_seconds).await? {
        CancelResult::Cancelled { hints, revoked } => {
            tracing::info!(build.id = %build, running = hints.len(), revoked = revoked.len(), "build cancelled");
            crash_point("cancel.stored");
            for attempt in revoked {
                state.end_log(attempt).await;
            }
            for (builder, attempt) in hints {
                state.hints.cancel(builder, attempt);
            }
            crash_point("cancel.hinted");
            state.relay_wake.notify_one();
            Ok(())
        }
        CancelResult::AlreadyFinished(ended) => Err(ApiError::Conflict {
            detail: format!("build {build} has already ended: {ended}"),
        }),
        CancelResult::Unknown => Err(ApiError::unknown("build", build)),
    }
}
