//! `POST /builder/v1/claim` and `/decline`: an offered attempt is taken, or given back.

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
    crash_point!("claim.asked");
    let outcome = state.store.claim(&input).await?;
    crash_point!("claim.recorded");
    // Whatever came of it, the release window has changed.
    state.wake_relay_if_held_back();
    let refusal = match outcome {
        ClaimOutcome::Granted { already } => {
            count("granted");
            tracing::info!(attempt.id = %attempt_id, builder.id = %builder_id, already, "attempt claimed");
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
    tracing::info!(attempt.id = %attempt_id, builder.id = %builder_id, ?refusal, "claim refused");
    Err(ApiError::ClaimRefused(refusal))
}

pub async fn decline(
    BuilderCaller(builder_id): BuilderCaller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<DeclineRequest>,
) -> Result<StatusCode, ApiError> {
    let reason = reason(&request);
    let blockers = blockers(request.hindrances)?;
    if !blockers.is_nothing() {
        // Before the task is put back: what is released next must not count on this builder.
        state.store.note_blockers(builder_id, &blockers).await?;
    }
    crash_point!("decline.asked");
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
    crash_point!("decline.recorded");
    if put_back {
        tracing::info!(attempt.id = %request.attempt_id, builder.id = %builder_id, reason, "attempt declined");
        if was_claimed {
            state.end_log(request.attempt_id).await;
        }
        state.relay_wake.notify_one();
    }
    Ok(StatusCode::NO_CONTENT)
}

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
