//! Submitting: a request is checked, what it names is looked up, and build, tasks and idempotency key are stored in
//! one transaction. A refused request leaves nothing behind; a committed one wakes the relay.

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
use crate::builds::submit::validate::{CheckedSource, Rules, check};
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
    let checked = check(request, &rules)?;
    let project = state
        .store
        .find_project(&checked.owner, &checked.project)
        .await?
        .ok_or_else(|| {
            FieldError::new("project", "there is no such project").accepted("main/main")
        })?;
    let sources = find_sources(state, checked.sources).await?;
    let memory_class = state.settings.memory_classes.of(checked.limits.memory_mib);
    let build = NewBuild {
        submitter: project.account_id,
        project,
        sources,
        chroots: checked.chroots,
        repositories: checked.repositories,
        limits: checked.limits,
        disk_mib: checked.disk_mib,
        priority: checked.priority,
        resubmit_of: None,
        memory_class: memory_class.name.clone(),
        key: key.map(|key| submission_key(key, "submit", request)),
    };
    store_build(state, &build).await
}

/// Uploaded sources must be there, with the size that the caller believes.
async fn find_sources(
    state: &AppState,
    checked: Vec<CheckedSource>,
) -> Result<Vec<NewSource>, ApiError> {
    let mut sources = Vec::with_capacity(checked.len());
    for (position, source) in checked.into_iter().enumerate() {
        sources.push(match source {
            CheckedSource::Url { name, url } => NewSource {
                name,
                place: SourcePlace::Url(url),
            },
            CheckedSource::Stored { name, sha256, size } => {
                let field = format!("sources[{position}]");
                // Touched before it is named, so that it is not removed in between.
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
                if size.is_some_and(|believed| believed != stored) {
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

pub(crate) async fn store_build(state: &AppState, build: &NewBuild) -> Result<BuildView, ApiError> {
    crash_point!("submission.unstored");
    match state.store.submit_build(build).await? {
        Submission::Accepted(view) => {
            crash_point!("submission.stored");
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

/// The key with the digest by which a repeated request is known: over the request as it was understood, not as it
/// was spaced.
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
