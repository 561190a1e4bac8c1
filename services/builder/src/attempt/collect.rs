//! Takes results out of an ended sandbox onto the spool. A full disk repeats only this step.

use std::path::Path;
use std::time::Duration;

use millrace_chassis::Backoff;
use millrace_domain::{Outcome, OutcomeKind, Stage};
use millrace_sandbox::{CollectCaps, Collected, SandboxHandle};
use millrace_supervisor::RESULT_DIR;
use millrace_wire::ManifestFile;
use tokio::time::Instant;

use super::Attempt;
use super::ending::{Unfinished, disk_failed, is_disk_full, sandbox_failed};
use crate::context::on_disk;

/// How long a full disk is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// Time between two looks at it, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Collects the files of a package.
pub async fn collect(
    attempt: &Attempt,
    handle: &SandboxHandle,
    position: u32,
) -> Result<Collected, Unfinished> {
    let give_up = Instant::now() + PATIENCE;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let folder = attempt.folder.clone();
        let error = match on_disk(move || folder.make_results(position)).await {
            Ok(into) => match handle
                .collect(RESULT_DIR, &into, &CollectCaps::default())
                .await
            {
                Ok(collected) => return Ok(collected),
                Err(error) if is_disk_full(&error) => sandbox_failed(&error, Stage::Collect),
                Err(error) => return Err(sandbox_failed(&error, Stage::Collect).into()),
            },
            Err(error) => disk_failed(&error, Stage::Collect),
        };
        if error.kind != OutcomeKind::BuilderDiskFull || Instant::now() >= give_up {
            return Err(error.into());
        }
        tracing::warn!(attempt.id = %attempt.live.id(), "the spool disk is full, the results wait in their sandbox");
        tokio::select! {
            biased;
            interrupt = attempt.live.interrupted(&attempt.ctx.shutdown) => return Err(interrupt.into()),
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

/// The manifest of what was collected.
pub fn manifest(collected: &Collected) -> Vec<ManifestFile> {
    collected
        .files
        .iter()
        .map(|file| ManifestFile {
            name: file.name.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
        })
        .collect()
}

/// Whether binary packages are among the files.
pub fn has_packages(files: &[ManifestFile]) -> bool {
    files.iter().map(|file| file.name.as_str()).any(|name| {
        let of_source = [".src.rpm", ".nosrc.rpm"];
        is_package(name) && !of_source.iter().any(|ending| name.ends_with(ending))
    })
}

fn is_package(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "rpm")
}

/// A success of which a package was left in the sandbox is none.
pub fn left_behind(collected: &Collected) -> Option<Outcome> {
    let refused = collected
        .refused
        .iter()
        .find(|file| is_package(&file.name))?;
    let message = format!(
        "the package {} was built but not taken: {}",
        refused.name, refused.reason
    );
    Some(Outcome::new(OutcomeKind::BuildFailed, message).at(Stage::Collect))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<ManifestFile> {
        names
            .iter()
            .map(|name| ManifestFile {
                name: name.parse().unwrap(),
                size: 1,
                sha256: String::new(),
            })
            .collect()
    }

    #[test]
    fn source_packages_and_logs_are_no_packages() {
        assert!(!has_packages(&files(&["a-1-1.src.rpm", "build.log"])));
        assert!(has_packages(&files(&["a-1-1.src.rpm", "a-1-1.noarch.rpm"])));
    }
}
