//! What lies on disks: the result store and the builders' spools.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::facts::StoredFile;

/// Files that an idle builder keeps in its folder of the spool.
const OWN_FILES: [&str; 3] = ["lock", "builder.json", "token"];

/// All files below a folder; one that goes away meanwhile is not there.
pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Files of the result store; the bytes of results and sources are read.
pub(super) fn stored(results: &Path) -> Vec<StoredFile> {
    let file = |path: PathBuf| {
        let name = path.strip_prefix(results).ok()?.to_str()?.to_owned();
        let bytes = std::fs::read(&path).ok()?;
        let read = name.starts_with("attempts/") || name.starts_with("sources/");
        Some(StoredFile {
            path: name,
            size: bytes.len() as u64,
            sha256: read.then(|| hex::encode(Sha256::digest(&bytes))),
        })
    };
    files_below(results).into_iter().filter_map(file).collect()
}

/// What lies in a spool beside what an idle builder keeps. Folders count, too: an attempt's is removed with its files.
pub(super) fn spooled(spool: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut identities = 0;
    for entry in children(spool) {
        let name = entry
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("builder-") && entry.is_dir() {
            identities += 1;
            let strange = |path: &PathBuf| {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                !OWN_FILES.contains(&name.as_str()) && name != "attempts"
            };
            found.extend(children(&entry).into_iter().filter(strange));
            found.extend(children(&entry.join("attempts")));
        } else {
            found.push(entry);
        }
    }
    let mut found: Vec<String> = found
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if identities > 1 {
        found.push(format!("{identities} identities in {}", spool.display()));
    }
    found
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}
