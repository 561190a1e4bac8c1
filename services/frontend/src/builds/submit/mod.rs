//! Submits a build: validates the request, looks up the project and the uploaded sources that it names, and stores
//! build, tasks and idempotency key in one transaction. A refused request leaves nothing behind; a committed one wakes
//! the relay.

pub(crate) mod request;
pub(crate) mod validate;

use millrace_chassis::crash_point;
use millrace_domain::{ChrootName, IdempotencyKey};
use millrace_results::ResultError;
use millrace_store::{
    BuildView, NewBuild, NewSource, SourcePlace, Submission, SubmissionKey, SubmitRefused,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::builds::submit::request::SubmitRequest;
use crate::builds::submit::validate::{Rules, ValidSource, validate};
use crate::error::{ApiError, FieldError};
use crate::state::AppState;

/// Stores a build, or finds the one that the same key stored before.
pub async fn submit(
    state: &AppState,
    request: &SubmitRequest,
    key: Option<IdempotencyKey>,
) -> Result<BuildView, ApiError> {
    let rules = Rules {
        limits: &state.settings.limits,
        max_sources: state.settings.config.caps.max_sources,
        guard: &state.settings.guard,
    };
    let valid = validate(request, &rules)?;
    let project = state
        .store
        .find_project(&valid.owner, &valid.project)
        .await?
        .ok_or_else(|| {
            FieldError::new("project", "there is no such project").accepted("main/main")
        })?;
    let sources = find_sources(state, valid.sources).await?;
    let memory_class = state.settings.memory_classes.of(valid.limits.memory_mib);
    let build = NewBuild {
        submitter: project.account_id,
        project,
        sources,
        chroots: valid.chroots,
        repositories: valid.repositories,
        limits: valid.limits,
        disk_mib: valid.disk_mib,
        priority: valid.priority,
        resubmit_of: None,
        memory_class: memory_class.name.clone(),
        key: key.map(|key| submission_key(key, "submit", request)),
    };
    store_build(state, &build).await
}

/// Looks up uploaded sources, which must be in the result store, with the size that the caller named.
async fn find_sources(
    state: &AppState,
    valid: Vec<ValidSource>,
) -> Result<Vec<NewSource>, ApiError> {
    let mut sources = Vec::with_capacity(valid.len());
    for (position, source) in valid.into_iter().enumerate() {
        sources.push(match source {
            ValidSource::Url { name, url } => NewSource {
                name,
                place: SourcePlace::Url(url),
            },
            ValidSource::Stored { name, sha256, size } => {
                let field = format!("sources[{position}]");
                // Touched first, so that the janitor does not remove it before the build is stored.
                let touched = state.results.touch_source(&sha256).await;
                let found = match touched {
                    Ok(()) => state.results.source(&sha256).await,
                    Err(error) => Err(error),
                };
                let stored = match found {
                    Ok(file) => file.size(),
                    Err(ResultError::NotFound(_)) => {
                        return Err(FieldError::new(
                            format!("{field}.sha256"),
                            "no such source was uploaded",
                        )
                        .accepted("the answer of POST /api/v1/sources")
                        .into());
                    }
                    Err(error) => return Err(error.into()),
                };
                if size.is_some_and(|size| size != stored) {
                    return Err(FieldError::new(
                        format!("{field}.size"),
                        "the uploaded source has another size",
                    )
                    .accepted(stored.to_string())
                    .into());
                }
                NewSource {
                    name,
                    place: SourcePlace::Stored {
                        sha256: sha256.to_string(),
                        size: stored,
                    },
                }
            }
        });
    }
    Ok(sources)
}

/// Stores a build with its tasks and wakes the relay; a repeated key answers with the build that it stored.
pub(crate) async fn store_build(state: &AppState, build: &NewBuild) -> Result<BuildView, ApiError> {
    crash_point("submission.unstored");
    match state.store.submit_build(build).await? {
        Submission::Accepted(view) => {
            crash_point("submission.stored");
            state.relay_wake.notify_one();
            tracing::info!(build.id = %view.id, "build submitted");
            Ok(*view)
        }
        Submission::Replayed(id) => {
            tracing::info!(build.id = %id, "submission repeated");
            let gone = || ApiError::internal(format!("build {id} was stored and is not there"));
            state.store.build(id).await?.ok_or_else(gone)
        }
        Submission::Refused(SubmitRefused::KeyReused) => Err(ApiError::KeyReused),
        Submission::Refused(SubmitRefused::UnknownChroot(name)) => {
            Err(unknown_chroot(state, &name).await?.into())
        }
    }
}

async fn unknown_chroot(state: &AppState, name: &ChrootName) -> Result<FieldError, ApiError> {
    let known = state.store.list_chroots().await?;
    let names: Vec<&str> = known
        .iter()
        .filter(|chroot| chroot.enabled)
        .map(|chroot| chroot.name.as_str())
        .collect();
    let reason = if known.iter().any(|chroot| chroot.name == *name) {
        format!("chroot {name} is disabled")
    } else {
        format!("there is no chroot {name}")
    };
    Ok(FieldError::new("chroots", reason).accepted(names.join(", ")))
}

/// The key, with a digest of the request that tells a repeated request from another one with the same key. The digest
/// is over the parsed request, so that white space does not count.
pub(crate) fn submission_key(
    key: IdempotencyKey,
    purpose: &str,
    request: &impl Serialize,
) -> SubmissionKey {
    let mut digest = Sha256::new();
    digest.update(purpose.as_bytes());
    digest.update([0]);
    digest.update(serde_json::to_vec(request).unwrap_or_default());
    SubmissionKey {
        key,
        digest: digest.finalize().into(),
    }
}
