//! Takes results out of an ended sandbox onto the spool. A full disk repeats only this step.

use std::path::Path;
use std::sync::Arc;

use millrace_domain::{Outcome, OutcomeKind, Stage};
use millrace_sandbox::{CollectCaps, Collected, SandboxHandle};
use millrace_supervisor::RESULT_DIR;
use millrace_wire::ManifestFile;

use crate::attempt::Attempt;
use crate::attempt::outcome::{Unfinished, disk_failed, sandbox_failed};
use crate::attempt::spool_wait::SpoolWait;
use crate::context::Context;
use crate::spool::AttemptFolder;
use crate::spool::atomic_file::{Durability, sync_folder};
use crate::spool::blocking::on_disk;

/// Collects the files of a package; they outlive the host afterwards.
pub async fn collect(
    attempt: &Attempt,
    handle: &SandboxHandle,
    position: u32,
) -> Result<Collected, Unfinished> {
    let mut wait = SpoolWait::new(&attempt.ctx);
    loop {
        let full = match collect_once(attempt, handle, position).await {
            Ok(collected) => return Ok(collected),
            Err(outcome) if outcome.kind == OutcomeKind::BuilderDiskFull => outcome,
            Err(outcome) => return Err(outcome.into()),
        };
        remove_partial(attempt, position).await;
        tracing::warn!(attempt.id = %attempt.running.id(), "the spool disk is full, the results wait in their sandbox");
        if !wait.pause(attempt, &full.message).await? {
            return Err(wait.exhausted(full).into());
        }
    }
}

async fn collect_once(
    attempt: &Attempt,
    handle: &SandboxHandle,
    position: u32,
) -> Result<Collected, Outcome> {
    let of_disk = |error: std::io::Error| disk_failed(&error, Stage::Collect);
    let folder = attempt.folder.clone();
    let into = on_disk(move || folder.make_results(position))
        .await
        .map_err(of_disk)?;
    let collected = handle
        .collect(RESULT_DIR, &into, &CollectCaps::default())
        .await
        .map_err(|error| sandbox_failed(&error, Stage::Collect))?;
    let files = manifest(&collected);
    // Some disks say only now that they are full.
    sync(&attempt.ctx, &attempt.folder, position, files)
        .await
        .map_err(of_disk)?;
    Ok(collected)
}

/// Makes the files of a package outlive the host.
async fn sync(
    ctx: &Arc<Context>,
    folder: &AttemptFolder,
    position: u32,
    files: Vec<ManifestFile>,
) -> std::io::Result<()> {
    if ctx.results_durability() != Durability::HostCrash || files.is_empty() {
        return Ok(());
    }
    let results = folder.results(position);
    on_disk(move || {
        for file in &files {
            std::fs::File::open(results.join(file.name.as_str()))?.sync_all()?;
        }
        sync_folder(&results)
    })
    .await
}

/// What was taken before the disk was full would only fill it further.
async fn remove_partial(attempt: &Attempt, position: u32) {
    let folder = attempt.folder.clone();
    if let Err(error) = on_disk(move || folder.remove_results(position)).await {
        tracing::warn!(attempt.id = %attempt.running.id(), "cannot remove partial results: {error}");
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
    files.iter().any(|file| is_binary(file.name.as_str()))
}

/// Whether a file is a binary package by its name.
pub fn is_binary(name: &str) -> bool {
    let of_source = [".src.rpm", ".nosrc.rpm"];
    is_package(name) && !of_source.iter().any(|ending| name.ends_with(ending))
}

fn is_package(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "rpm")
}

/// Why a success is none: a package was left in the sandbox, or may have been.
pub fn left_behind(collected: &Collected) -> Option<String> {
    let refused = collected.refused.iter().find(|file| is_package(&file.name));
    match (refused, collected.unread) {
        (Some(file), _) => Some(format!(
            "the package {} was built but not taken: {}",
            file.name, file.reason
        )),
        (None, Some(reason)) => Some(format!(
            "packages may have been built but not taken: the result folder was not read to its end, {reason}"
        )),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sandbox::RefusedFile;

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
    fn a_success_that_lost_a_package_is_none() {
        let refused = |name: &str| RefusedFile {
            name: name.to_owned(),
            reason: "not a regular file".to_owned(),
        };
        let mut collected = Collected::default();
        assert_eq!(left_behind(&collected), None);
        collected.refused = vec![refused("passwd.log")];
        assert_eq!(left_behind(&collected), None, "a log is no loss");
        collected.unread = Some("too many files had to be skipped");
        assert!(left_behind(&collected).unwrap().contains("too many files"));
        collected.refused.push(refused("-rf.rpm"));
        assert!(left_behind(&collected).unwrap().contains("-rf.rpm"));
    }

    #[test]
    fn source_packages_and_logs_are_no_packages() {
        assert!(!has_packages(&files(&["a-1-1.src.rpm", "build.log"])));
        assert!(has_packages(&files(&["a-1-1.src.rpm", "a-1-1.noarch.rpm"])));
    }
}
