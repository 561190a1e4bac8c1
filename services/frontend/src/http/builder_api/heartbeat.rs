//! `POST /builder/v1/heartbeat`: a builder reports its attempts and the room it has left, and extends its leases with
//! that. The answer says what to do with each attempt, and is repeated until the builder has acted on it.

use axum::Json;
use axum::extract::State;
use millrace_chassis::crash_point;
use millrace_domain::AttemptId;
use millrace_store::{Blockers, DiskShort, FileKey, Heartbeat, HeartbeatVerdict, HeldAttempt};
use millrace_wire::{
    AttemptAnswer, AttemptStatus, AttemptVerdict, HeartbeatAnswer, HeartbeatRequest, Hindrances,
    MissingFile, WaitsFor,
};

use crate::error::{ApiError, FieldError};
use crate::http::auth::BuilderCaller;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Attempts of one builder at most.
const MAX_ATTEMPTS: usize = 10_000;
/// Stages of one attempt at most.
const MAX_STAGES: usize = 2_000;
/// Missing images of one builder at most.
const MAX_IMAGES: usize = 1_000;
/// Bytes of the name of a missing image at most.
const MAX_IMAGE: usize = 1_000;
/// Cap on numbers from a builder: their columns are signed 32-bit integers.
const MAX_NUMBER: u32 = 1 << 30;

/// Records the heartbeat, and answers with a verdict for each attempt it names.
pub async fn heartbeat(
    BuilderCaller(builder_id): BuilderCaller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<HeartbeatRequest>,
) -> Result<Json<HeartbeatAnswer>, ApiError> {
    if request.attempts.len() > MAX_ATTEMPTS
        || request.attempts.iter().any(|a| a.stages.len() > MAX_STAGES)
    {
        return Err(FieldError::new("attempts", "too many attempts or stages")
            .accepted(format!("{MAX_ATTEMPTS} attempts with {MAX_STAGES} stages"))
            .into());
    }
    let leases = &state.settings.config.leases;
    let blockers = blockers(request.hindrances)?;
    let beat = Heartbeat {
        builder_id,
        blockers,
        free_mib: request.free_mib.min(MAX_NUMBER),
        free_sandboxes: request.free_sandboxes.min(MAX_NUMBER),
        stopping: request.stopping,
        attempts: request.attempts.into_iter().map(held_attempt).collect(),
        lease_seconds: leases.lease_seconds,
        finish_lease_seconds: leases.finish_lease_seconds,
    };
    crash_point("heartbeat.heard");
    let verdicts = state.store.heartbeat(&beat).await?;
    let availability = state
        .store
        .availability(builder_id, request.self_test_passed)
        .await?;
    if availability.returns {
        tracing::info!(builder.id = %builder_id, "builder passed its self-test and is no longer set aside");
        state.relay_wake.notify_one();
    }
    crash_point("heartbeat.recorded");
    let reserve_mib = state.store.reserved_mib(builder_id).await?;
    // A live builder with free room opens the release window.
    if beat.free_sandboxes > 0 {
        state.wake_relay_if_held_back();
    }
    Ok(Json(HeartbeatAnswer {
        attempts: verdicts
            .into_iter()
            .map(|(attempt_id, verdict)| answer(attempt_id, verdict))
            .collect(),
        drain: availability.drained || availability.set_aside_at.is_some(),
        reserve_mib,
        self_test: availability.set_aside_at,
    }))
}

fn held_attempt(status: AttemptStatus) -> HeldAttempt {
    HeldAttempt {
        attempt_id: status.attempt_id,
        lease_token_hash: status.lease_token.hash(),
        phase: status.phase,
        stage: status.stage,
        stages: status.stages,
        waits_for: status.waits_for.and_then(waits_for),
    }
}

/// The word for the database; none for what only a newer frontend understands.
fn waits_for(what: WaitsFor) -> Option<&'static str> {
    match what {
        WaitsFor::SpoolSpace => Some("spool_space"),
        WaitsFor::ResultsSpace => Some("results_space"),
        WaitsFor::Other => None,
    }
}

/// Converts what keeps a builder from work, and refuses or cuts what is out of bounds.
pub fn blockers(hindrances: Hindrances) -> Result<Blockers, FieldError> {
    let images = &hindrances.missing_images;
    if images.len() > MAX_IMAGES || images.iter().any(|image| image.len() > MAX_IMAGE) {
        return Err(
            FieldError::new("hindrances.missing_images", "too many or too long").accepted(format!(
                "{MAX_IMAGES} images with names of {MAX_IMAGE} bytes"
            )),
        );
    }
    let disk = hindrances.disk.map(|disk| DiskShort {
        free_mib: disk.free_mib.min(MAX_NUMBER),
        floor_mib: disk.floor_mib.min(MAX_NUMBER),
    });
    Ok(Blockers {
        disk,
        missing_images: hindrances.missing_images,
    })
}

fn answer(attempt_id: AttemptId, verdict: HeartbeatVerdict) -> AttemptAnswer {
    let verdict = match verdict {
        HeartbeatVerdict::Continue => AttemptVerdict::Continue,
        HeartbeatVerdict::Cancel => AttemptVerdict::Cancel,
        HeartbeatVerdict::Revoked => AttemptVerdict::Revoked,
        HeartbeatVerdict::Accepted => AttemptVerdict::Accepted,
        HeartbeatVerdict::Refused => AttemptVerdict::Refused,
        HeartbeatVerdict::Missing(files) => AttemptVerdict::Missing {
            files: files.into_iter().map(missing_file).collect(),
        },
    };
    AttemptAnswer {
        attempt_id,
        verdict,
    }
}

fn missing_file(file: FileKey) -> MissingFile {
    MissingFile {
        position: file.position,
        name: file.name,
    }
}
