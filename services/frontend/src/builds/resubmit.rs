//! Submits a build again: the same sources, chroots and repositories as frozen at the first submission, with other
//! limits where the request names them.

use millrace_domain::{BuildId, IdempotencyKey, LimitName};
use millrace_store::{BuildView, NewBuild, NewSource};

use crate::builds::submit::request::ResubmitRequest;
use crate::builds::submit::validate::{validate_disk, validate_limits};
use crate::builds::submit::{store_build, submission_key};
use crate::error::{ApiError, FieldError};
use crate::state::AppState;

/// Stores a copy of an earlier build, or finds the one that the same key stored before.
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
    let suggested = if request.with_suggested_limits {
        Suggested::of(&view)?
    } else {
        Suggested::default()
    };
    // An earlier limit may lie outside today's bounds: then it is refused like any other.
    let limits = validate_limits(
        &state.settings.limits,
        Some(
            request
                .memory_reqs
                .or(suggested.memory)
                .unwrap_or_else(|| view.limits.memory_mib.into()),
        ),
        Some(
            request
                .timeout
                .or(suggested.timeout)
                .unwrap_or_else(|| view.limits.timeout_seconds.into()),
        ),
    )?;
    let disk = (request.disk)
        .or(suggested.disk)
        .or(view.disk_mib.map(i64::from));
    let disk_mib = validate_disk(&state.settings.limits, disk)?;
    let memory_class = state.settings.memory_classes.of(limits.memory_mib);
    let build = NewBuild {
        submitter: project.account_id,
        project,
        sources: sources_of(&view),
        chroots: view.chroots,
        repositories: view.repositories,
        limits,
        disk_mib,
        priority: view.priority,
        resubmit_of: Some(earlier),
        memory_class: memory_class.name.clone(),
        key: key.map(|key| submission_key(key, &format!("resubmit {earlier}"), request)),
    };
    store_build(state, &build).await
}

/// The largest limits that the outcomes of a build suggest.
#[derive(Debug, Default)]
struct Suggested {
    memory: Option<i64>,
    timeout: Option<i64>,
    disk: Option<i64>,
}

impl Suggested {
    fn of(view: &BuildView) -> Result<Self, FieldError> {
        let largest = |name: LimitName| {
            view.tasks
                .iter()
                .filter_map(|task| task.outcome.as_ref()?.suggested_limit)
                .filter(|limit| limit.name == name)
                .filter_map(|limit| i64::try_from(limit.value).ok())
                .max()
        };
        let found = Self {
            memory: largest(LimitName::Memory),
            timeout: largest(LimitName::Timeout),
            disk: largest(LimitName::Disk),
        };
        if found.memory.is_none() && found.timeout.is_none() && found.disk.is_none() {
            return Err(FieldError::new(
                "with_suggested_limits",
                "no outcome of this build suggests a limit; give memory_reqs, timeout or disk",
            ));
        }
        Ok(found)
    }
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
