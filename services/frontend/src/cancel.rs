//! Cancelling: what was not begun ends at once, what runs is told to stop, by a hint now and by the next heartbeat
//! answer in any case.

use millrace_domain::BuildId;
use millrace_store::CancelResult;

use crate::error::ApiError;
use crate::state::AppState;

/// Cancels a build; an error when there is no such build or it has ended.
pub async fn cancel(state: &AppState, build: BuildId) -> Result<(), ApiError> {
    match state.store.cancel_build(build).await? {
        CancelResult::Cancelled { hints } => {
            tracing::info!(build.id = %build, running = hints.len(), "build cancelled");
            for (builder, attempt) in hints {
                state.hints.cancel(builder, attempt);
            }
            state.relay_wake.notify_one();
            Ok(())
        }
        CancelResult::AlreadyFinished(ended) => Err(ApiError::Conflict {
            detail: format!("build {build} has already ended: {ended}"),
        }),
        CancelResult::Unknown => Err(ApiError::unknown("build", build)),
    }
}
