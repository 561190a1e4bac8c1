//! Rules about what clients asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::invariants::Facts;

/// Each answer of success names a build that is stored with its sources and a task.
pub(super) fn stored(facts: &Facts) -> Vec<String> {
    let builds: BTreeMap<i64, _> = facts.builds.iter().map(|build| (build.id, build)).collect();
    let mut found = Vec::new();
    for submission in facts.known.submissions.values() {
        for answer in &submission.answers {
            match builds.get(answer) {
                None => found.push(format!(
                    "build {answer}, answered for {}, is not stored",
                    submission.key
                )),
                Some(build) if build.tasks == 0 => {
                    found.push(format!("build {answer} has no task"));
                }
                Some(build) if build.sources.len() != submission.sources.len() => {
                    found.push(format!(
                        "build {answer} has sources {:?} in place of {:?}",
                        build.sources, submission.sources
                    ));
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// All answers for a key name one build, and it is the one that is stored under the key.
pub(super) fn one_build_a_key(facts: &Facts) -> Vec<String> {
    let mut by_key: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for submission in facts.known.submissions.values() {
        by_key
            .entry(&submission.key)
            .or_default()
            .extend(&submission.answers);
    }
    for build in &facts.builds {
        for key in &build.keys {
            by_key.entry(key).or_default().insert(build.id);
        }
    }
    by_key
        .into_iter()
        .filter(|(_, builds)| builds.len() > 1)
        .map(|(key, builds)| format!("{key} has builds {builds:?}"))
        .collect()
}

/// Each build has one key, which a client used.
pub(super) fn none_from_nowhere(facts: &Facts) -> Vec<String> {
    let ours = |key: &String| facts.known.submissions.contains_key(key);
    let strange = facts
        .builds
        .iter()
        .filter(|build| !(build.keys.len() == 1 && build.keys.iter().all(ours)));
    strange
        .map(|build| format!("build {} has the keys {:?}", build.id, build.keys))
        .collect()
}

/// All submissions are well formed, so none is refused.
pub(super) fn none_refused(facts: &Facts) -> Vec<String> {
    let refused = |submission: &crate::chaos::Submission| {
        let reason = submission.refused.as_ref()?;
        Some(format!("{} was refused: {reason}", submission.key))
    };
    facts
        .known
        .submissions
        .values()
        .filter_map(refused)
        .collect()
}

/// What clients saw while it ran.
pub(super) fn no_contradiction(facts: &Facts) -> Vec<String> {
    facts.known.contradictions.clone()
}
