//! `POST /builder/v1/claim` and `/decline`: a builder takes an offered attempt, or gives one back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use metrics::counter;
use millrace_chassis::crash_point;
use millrace_store::{ClaimInput, ClaimOutcome};
use millrace_wire::{ClaimGranted, ClaimRefusal, ClaimRequest, DeclineReason, DeclineRequest};

use crate::error::ApiError;
use crate::http::auth::BuilderCaller;
use crate::http::builder_api::heartbeat::blockers;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Claims an attempt for the builder. A repeat with the same nonce gets the same answer, so that a lost answer can be
/// asked for again.
#[tracing::instrument(skip_all, fields(attempt.id = %request.attempt_id, builder.id = %builder_id))]
pub async fn claim(
    BuilderCaller(builder_id): BuilderCaller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ClaimRequest>,
) -> Result<Json<ClaimGranted>, ApiError> {
    let ClaimRequest { attempt_id, nonce } = request;
    let lease_token = state.secrets.lease_key.token(attempt_id, &nonce);
    let lease_seconds = state.settings.config.leases.lease_seconds;
    let input = ClaimInput {
        builder_id,
        attempt_id,
        nonce_hash: nonce.hash(),
        lease_token_hash: lease_token.hash(),
        lease_seconds,
    };
    crash_point("claim.asked");
    let outcome = state.store.claim(&input).await?;
    crash_point("claim.recorded");
    // Granted or refused, the release window has changed.
    state.wake_relay_if_held_back();
    let refusal = match outcome {
        ClaimOutcome::Granted { already } => {
            count("granted");
            tracing::info!(already, "attempt claimed");
            return Ok(Json(ClaimGranted {
                lease_token,
                lease_seconds,
            }));
        }
        ClaimOutcome::Taken => ClaimRefusal::Taken,
        ClaimOutcome::Avoid => ClaimRefusal::Avoid,
        ClaimOutcome::NoRoom => ClaimRefusal::NoRoom,
        ClaimOutcome::Revoked => ClaimRefusal::Revoked,
    };
    count("refused");
    tracing::info!(?refusal, "claim refused");
    Err(ApiError::ClaimRefused(refusal))
}

/// Puts a task back whose attempt the builder cannot take, or hands back unfinished. An attempt that is not the
/// builder's is left alone, with the same answer.
#[tracing::instrument(skip_all, fields(attempt.id = %request.attempt_id, builder.id = %builder_id))]
pub async fn decline(
    BuilderCaller(builder_id): BuilderCaller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<DeclineRequest>,
) -> Result<StatusCode, ApiError> {
    let reason = reason(&request);
    let blockers = blockers(request.hindrances)?;
    if !blockers.is_nothing() {
        // Before the task is put back, so that the next release does not count on this builder.
        state.store.note_blockers(builder_id, &blockers).await?;
    }
    crash_point("decline.asked");
    let id = request.attempt_id;
    let was_claimed = request.lease_token.is_some();
    let put_back = match request.lease_token {
        None if request.missing_image.is_some() || blockers.disk.is_some() => {
            let lacks_image = request.missing_image.is_some();
            state.store.decline_blocked(id, lacks_image, &reason).await
        }
        lease => {
            let lease = lease.map(|token| token.hash());
            let declined = state.store.decline(builder_id, id, lease.as_ref(), &reason);
            declined.await
        }
    };
    let put_back = put_back?;
    crash_point("decline.recorded");
    if put_back {
        tracing::info!(reason, "attempt declined");
        if was_claimed {
            state.end_log(request.attempt_id).await;
        }
        state.relay_wake.notify_one();
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The reason that the attempt shows.
fn reason(request: &DeclineRequest) -> String {
    match (&request.missing_image, &request.reason) {
        (Some(image), _) => format!("declined: the builder's engine has no image {image}"),
        (None, DeclineReason::NoRoom) if request.hindrances.disk.is_some() => {
            "declined: the builder's disk was short of space".to_owned()
        }
        (None, DeclineReason::NoRoom) => "declined: the builder had no room".to_owned(),
        (None, DeclineReason::Stopping) => "declined: the builder was stopping".to_owned(),
    }
}

fn count(answer: &'static str) {
    counter!("millrace_claims_total", "answer" => answer).increment(1);
}
