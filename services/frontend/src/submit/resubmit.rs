//! Submitting again: the same frozen sources, chroots and repositories, with other limits where asked.

use millrace_domain::{BuildId, IdempotencyKey};
use millrace_store::{BuildView, NewBuild, NewSource};

use super::check::check_limits;
use super::{ResubmitRequest, store_build, submission_key};
use crate::error::{ApiError, FieldError};
use crate::state::AppState;

/// Stores a build like an earlier one.
pub async fn resubmit(
    state: &AppState,
    earlier: BuildId,
    request: &ResubmitRequest,
    key: Option<IdempotencyKey>,
) -> Result<BuildView, ApiError> {
    let view = state
        .store
        .build(earlier)
        .await?
        .ok_or_else(|| ApiError::unknown("build", earlier))?;
    let project = state
        .store
        .find_project(&view.owner, &view.project)
        .await?
        .ok_or_else(|| FieldError::new("project", "the build's project is gone"))?;
    // An earlier limit may lie outside today's bounds: then it is refused like any other.
    let limits = check_limits(
        &state.settings.limits,
        Some(
            request
                .memory_reqs
                .unwrap_or_else(|| view.limits.memory_mib.into()),
        ),
        Some(
            request
                .timeout
                .unwrap_or_else(|| view.limits.timeout_seconds.into()),
        ),
    )?;
    let memory_class = state.settings.memory_classes.of(limits.memory_mib);
    let build = NewBuild {
        submitter: project.account_id,
        project,
        sources: sources_of(&view),
        chroots: view.chroots,
        repositories: view.repositories,
        limits,
        priority: view.priority,
        resubmit_of: Some(earlier),
        memory_class: memory_class.name.clone(),
        key: key.map(|key| submission_key(key, &format!("resubmit {earlier}"), request)),
    };
    store_build(state, &build).await
}

fn sources_of(view: &BuildView) -> Vec<NewSource> {
    view.sources
        .iter()
        .map(|source| NewSource {
            name: source.name.clone(),
            place: source.place.clone(),
        })
        .collect()
}
