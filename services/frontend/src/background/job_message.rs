//! Builds the job message of an attempt from the task that the store released.

use millrace_store::{ReleasedTask, SourcePlace};
use millrace_wire::{
    FinishedBefore, JobChroot, JobSource, JobV1, ManifestFile, SourceOrigin, encode,
};
use serde_json::Value;

/// The message that offers an attempt. Its id is the attempt's, so that a second copy is recognised.
pub fn message(task: &ReleasedTask) -> Value {
    encode(task.attempt_id.0, chrono::Utc::now(), &job(task)).unwrap_or_else(|error| {
        // A builder parks a null message, which revokes the attempt and shows the reason.
        tracing::error!(attempt.id = %task.attempt_id, "cannot encode a job: {error}");
        Value::Null
    })
}

fn job(task: &ReleasedTask) -> JobV1 {
    JobV1 {
        attempt_id: task.attempt_id,
        attempt_number: task.attempt_number,
        task_id: task.task_id,
        build_id: task.build_id,
        owner: task.owner.clone(),
        project: task.project.clone(),
        chroot: JobChroot {
            name: task.chroot.name.clone(),
            image: task.chroot.image.clone(),
            mock_root: task.chroot.mock_root.clone(),
        },
        sources: task
            .sources
            .iter()
            .map(|source| {
                let (origin, size) = match &source.place {
                    SourcePlace::Url(url) => (SourceOrigin::Url { url: url.clone() }, None),
                    SourcePlace::Stored { sha256, size } => (
                        SourceOrigin::Stored {
                            sha256: sha256.clone(),
                        },
                        Some(*size),
                    ),
                };
                JobSource {
                    position: source.position,
                    name: source.name.clone(),
                    origin,
                    size,
                    finished: finished_before(task, source.position),
                }
            })
            .collect(),
        repositories: task.repositories.clone(),
        limits: task.limits,
        disk_mib: task.disk_mib,
        network: false,
    }
}

/// What an earlier attempt finished of a source, so that its files are reused; none where it is to be built.
fn finished_before(task: &ReleasedTask, position: u32) -> Option<FinishedBefore> {
    let package = task.finished.iter().find(|p| p.position == position)?;
    let files = package.files.iter().map(|file| ManifestFile {
        name: file.name.clone(),
        size: file.size,
        sha256: file.sha256.clone(),
    });
    Some(FinishedBefore {
        attempt_id: package.attempt_id,
        outcome: package.outcome.clone(),
        files: files.collect(),
    })
}
