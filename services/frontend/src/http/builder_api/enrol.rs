//! `POST /builder/v1/enrol`: a builder says who it is and what it offers, and gets a token of its own.
//!
//! With an earlier token the new one follows from it, so that a builder whose answer was lost can ask again and is
//! not locked out of its own identity. A new builder gets the same by making up a random "previous" token.

use axum::Json;
use axum::extract::State;
use millrace_chassis::{crash_point, random_bytes};
use millrace_domain::Token;
use millrace_store::{Enrolment, NewBuilder};
use millrace_wire::{EnrolRequest, Enrolled};

use crate::error::{ApiError, FieldError};
use crate::http::auth::Enroller;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Columns are signed 32-bit integers, and no machine has more.
const MAX_MIB: u32 = 1 << 30;

pub async fn enrol(
    _: Enroller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<EnrolRequest>,
) -> Result<Json<Enrolled>, ApiError> {
    check(&request)?;
    let token = match &request.previous_token {
        Some(previous) => state
            .secrets
            .lease_key
            .builder_token(request.builder_id, previous),
        None => Token::from_bytes(random_bytes().map_err(ApiError::internal)?),
    };
    let mut builder = NewBuilder {
        id: request.builder_id,
        name: request.name,
        token_hash: token.hash(),
        previous_token_hash: request.previous_token.map(|token| token.hash()),
        engine_id: request.engine_id,
        engine_budget_mib: request.engine_budget_mib,
        archs: request.archs,
        memory_mib: request.memory_mib,
        sandboxes: request.sandboxes,
        version: request.version,
        renewal: request.renewal,
    };
    crash_point!("enrolment.unstored");
    let returns = store(&state, &mut builder).await?;
    crash_point!("enrolment.stored");
    if returns {
        tracing::info!(builder.id = %builder.id, "builder was started anew and returns from being set aside");
    }
    tracing::info!(
        builder.id = %builder.id,
        builder.name,
        builder.version,
        memory_mib = builder.memory_mib,
        sandboxes = builder.sandboxes,
        "builder enrolled"
    );
    state.builder_tokens.forget(builder.id);
    state.relay_wake.notify_one();
    let leases = &state.settings.config.leases;
    Ok(Json(Enrolled {
        token,
        heartbeat_seconds: leases.heartbeat_seconds,
        lease_seconds: leases.lease_seconds,
        memory_classes_gib: state.settings.config.limits.memory_classes_gib.clone(),
    }))
}

/// Says whether the builder had been set aside and returns.
async fn store(state: &AppState, builder: &mut NewBuilder) -> Result<bool, ApiError> {
    let mut enrolment = state.store.enrol_builder(builder).await?;
    if enrolment == Enrolment::IdTaken && builder.previous_token_hash.is_some() {
        // Perhaps this very enrolment was stored before, and its answer lost: then the new token is known already.
        builder.previous_token_hash = Some(builder.token_hash);
        enrolment = state.store.enrol_builder(builder).await?;
    }
    match enrolment {
        Enrolment::Enrolled { returns } => Ok(returns),
        Enrolment::IdTaken => Err(ApiError::Conflict {
            detail: format!(
                "builder {} is known and the previous token is not its own; give the builder an empty spool to enrol as a new one",
                builder.id
            ),
        }),
    }
}

fn check(request: &EnrolRequest) -> Result<(), FieldError> {
    text("name", &request.name, 64)?;
    text("engine_id", &request.engine_id, 128)?;
    text("version", &request.version, 64)?;
    number("engine_budget_mib", request.engine_budget_mib, MAX_MIB)?;
    number("memory_mib", request.memory_mib, MAX_MIB)?;
    number("sandboxes", request.sandboxes, 1000)?;
    if request.archs.is_empty() || request.archs.len() > 16 {
        return Err(FieldError::new("archs", "too few or too many").accepted("1 to 16"));
    }
    for (position, arch) in request.archs.iter().enumerate() {
        let field = format!("archs[{position}]");
        text(&field, arch, 32)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !arch.chars().all(is_plain) {
            return Err(FieldError::new(field, "not an architecture").accepted("such as x86_64"));
        }
    }
    Ok(())
}

fn text(field: &str, value: &str, most: usize) -> Result<(), FieldError> {
    let fits = (1..=most).contains(&value.len()) && !value.contains(char::is_control);
    fits.then_some(()).ok_or_else(|| {
        FieldError::new(field, "empty, too long or not plain")
            .accepted(format!("1 to {most} characters"))
    })
}

fn number(field: &str, value: u32, most: u32) -> Result<(), FieldError> {
    (1..=most).contains(&value).then_some(()).ok_or_else(|| {
        FieldError::new(field, format!("is {value}")).accepted(format!("1 to {most}"))
    })
}
