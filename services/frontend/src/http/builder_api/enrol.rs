//! `POST /builder/v1/enrol`: a builder registers its identity and its offer, and gets a token of its own.
//!
//! With an earlier token the new one is derived from it, so that a builder that lost the answer can ask again and is
//! not locked out of its own identity. A new builder has the same by making up a random "previous" token.

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

/// Memory of a builder or an engine at most, in MiB: the columns are signed 32-bit integers, and no machine has more.
const MAX_MIB: u32 = 1 << 30;

/// Enrols the builder and answers with its token and the intervals that it keeps to.
pub async fn enrol(
    _: Enroller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<EnrolRequest>,
) -> Result<Json<Enrolled>, ApiError> {
    validate(&request)?;
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
    crash_point("enrolment.unstored");
    let returns = store(&state, &mut builder).await?;
    crash_point("enrolment.stored");
    if returns {
        tracing::info!(builder.id = %builder.id, "builder was restarted and is no longer set aside");
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

/// Stores the builder; true where it had been set aside and its restart ends that.
async fn store(state: &AppState, builder: &mut NewBuilder) -> Result<bool, ApiError> {
    let mut enrolment = state.store.enrol_builder(builder).await?;
    if enrolment == Enrolment::IdTaken && builder.previous_token_hash.is_some() {
        // This enrolment may have been stored before its answer was lost; then the new token is the stored one.
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

fn validate(request: &EnrolRequest) -> Result<(), FieldError> {
    validate_text("name", &request.name, 64)?;
    validate_text("engine_id", &request.engine_id, 128)?;
    validate_text("version", &request.version, 64)?;
    validate_number("engine_budget_mib", request.engine_budget_mib, MAX_MIB)?;
    validate_number("memory_mib", request.memory_mib, MAX_MIB)?;
    validate_number("sandboxes", request.sandboxes, 1000)?;
    if request.archs.is_empty() || request.archs.len() > 16 {
        return Err(FieldError::new("archs", "too few or too many").accepted("1 to 16"));
    }
    for (position, arch) in request.archs.iter().enumerate() {
        let field = format!("archs[{position}]");
        validate_text(&field, arch, 32)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !arch.chars().all(is_plain) {
            return Err(FieldError::new(field, "not an architecture").accepted("such as x86_64"));
        }
    }
    Ok(())
}

fn validate_text(field: &str, value: &str, max: usize) -> Result<(), FieldError> {
    let fits = (1..=max).contains(&value.len()) && !value.contains(char::is_control);
    fits.then_some(()).ok_or_else(|| {
        FieldError::new(field, "empty, too long or not plain")
            .accepted(format!("1 to {max} characters"))
    })
}

fn validate_number(field: &str, value: u32, max: u32) -> Result<(), FieldError> {
    (1..=max).contains(&value).then_some(()).ok_or_else(|| {
        FieldError::new(field, format!("is {value}")).accepted(format!("1 to {max}"))
    })
}
