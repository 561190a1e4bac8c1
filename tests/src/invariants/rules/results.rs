//! Rules about what the result store keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::invariants::Facts;
use crate::invariants::facts::{Attempt, StoredFile, kind};

fn accepted(facts: &Facts) -> BTreeMap<&str, &Attempt> {
    let finished = facts
        .attempts
        .iter()
        .filter(|attempt| attempt.state == "finished");
    finished
        .map(|attempt| (attempt.id.as_str(), attempt))
        .collect()
}

fn below<'a>(facts: &'a Facts, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a StoredFile)> {
    facts
        .stored
        .iter()
        .filter_map(move |file| Some((file.path.strip_prefix(folder)?.strip_prefix('/')?, file)))
}

/// The current attempt of a task that succeeded tells of each source, and each that succeeded has a file.
pub(super) fn packages_told(facts: &Facts) -> Vec<String> {
    let builds: BTreeMap<i64, usize> = facts
        .builds
        .iter()
        .map(|b| (b.id, b.sources.len()))
        .collect();
    let with_files: BTreeSet<(&str, i64)> = facts
        .result_files
        .iter()
        .map(|file| (file.attempt_id.as_str(), file.position))
        .collect();
    let of_pollers: BTreeSet<&str> = (facts.attempts.iter())
        .filter(|attempt| attempt.poller.is_some())
        .map(|attempt| attempt.id.as_str())
        .collect();
    let mut found = Vec::new();
    for task in facts.tasks.iter().filter(|task| task.state == "succeeded") {
        let Some(attempt) = &task.current_attempt else {
            continue;
        };
        let told: Vec<_> = facts
            .packages
            .iter()
            .filter(|package| package.attempt_id == *attempt)
            .collect();
        if Some(&told.len()) != builds.get(&task.build_id) {
            found.push(format!(
                "attempt {attempt} of task {} tells of {} packages",
                task.id,
                told.len()
            ));
        }
        // A poller keeps its results where it is.
        let makes_files = facts.makes_files && !of_pollers.contains(attempt.as_str());
        let empty = |position| makes_files && !with_files.contains(&(attempt.as_str(), position));
        for package in told
            .iter()
            .filter(|p| kind(&p.outcome) == "succeeded" && empty(p.position))
        {
            found.push(format!(
                "package {} of attempt {attempt} succeeded without a file",
                package.position
            ));
        }
    }
    found
}

/// Rows and files of results belong to attempts whose report was accepted.
pub(super) fn of_accepted(facts: &Facts) -> Vec<String> {
    let accepted = accepted(facts);
    let rows = facts
        .result_files
        .iter()
        .filter(|file| !accepted.contains_key(file.attempt_id.as_str()));
    let mut found: Vec<String> = rows
        .map(|file| {
            format!(
                "row of {} of attempt {}, which was not accepted",
                file.name, file.attempt_id
            )
        })
        .collect();
    for (path, _) in below(facts, "attempts") {
        let attempt = path.split('/').next().unwrap_or_default();
        if !accepted.contains_key(attempt) {
            found.push(format!("file {path}, whose attempt was not accepted"));
        }
    }
    found
}

/// Each file that a result names is stored with its size and digest.
pub(super) fn bytes(facts: &Facts) -> Vec<String> {
    let stored: BTreeMap<&str, &StoredFile> = below(facts, "attempts").collect();
    let mut found = Vec::new();
    for file in &facts.result_files {
        let path = format!("{}/{}/{}", file.attempt_id, file.position, file.name);
        match stored.get(path.as_str()) {
            None => found.push(format!("{path} is not stored")),
            Some(bytes)
                if bytes.size != file.size || bytes.sha256.as_ref() != Some(&file.sha256) =>
            {
                found.push(format!("{path} holds other bytes than promised"));
            }
            Some(_) => {}
        }
    }
    found
}

/// Of accepted attempts only the named files are stored; sources that no build names are gone.
pub(super) fn no_strays(facts: &Facts) -> Vec<String> {
    let accepted = accepted(facts);
    let named: BTreeSet<String> = facts
        .result_files
        .iter()
        .map(|file| format!("{}/{}/{}", file.attempt_id, file.position, file.name))
        .collect();
    let mut found = Vec::new();
    for (path, _) in below(facts, "attempts") {
        let attempt = path.split('/').next().unwrap_or_default();
        if accepted.contains_key(attempt) && !named.contains(path) {
            found.push(format!("{path} is stored and not named"));
        }
    }
    let digests: BTreeSet<&str> = facts
        .builds
        .iter()
        .flat_map(|b| b.digests.iter().map(String::as_str))
        .collect();
    for (path, _) in below(facts, "sources") {
        if !digests.contains(path.rsplit('/').next().unwrap_or_default()) {
            found.push(format!("source {path} is stored and no build names it"));
        }
    }
    found
}

/// The log of an attempt has as many bytes as the database says.
pub(super) fn logs(facts: &Facts) -> Vec<String> {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, file) in below(facts, "logs") {
        *sizes
            .entry(path.split('/').next().unwrap_or_default())
            .or_default() += file.size;
    }
    let mut found = Vec::new();
    for attempt in facts
        .attempts
        .iter()
        .filter(|attempt| attempt.state == "finished")
    {
        let stored = sizes.get(attempt.id.as_str()).copied().unwrap_or_default();
        if i64::try_from(stored) != Ok(attempt.log_size) {
            found.push(format!(
                "attempt {} has {} bytes of log, {stored} are stored",
                attempt.id, attempt.log_size
            ));
        }
    }
    found
}

/// Each uploaded source of a build is stored under its digest.
pub(super) fn sources(facts: &Facts) -> Vec<String> {
    let good = |file: &StoredFile| file.sha256.as_deref() == file.path.rsplit('/').next();
    let stored: BTreeSet<&str> = below(facts, "sources")
        .filter(|(_, file)| good(file))
        .filter_map(|(path, _)| path.rsplit('/').next())
        .collect();
    let mut found = Vec::new();
    for build in &facts.builds {
        for digest in build
            .digests
            .iter()
            .filter(|digest| !stored.contains(digest.as_str()))
        {
            found.push(format!(
                "source {digest} of build {} is not stored",
                build.id
            ));
        }
    }
    found
}
