//! Rules about how tasks ended.

use std::collections::BTreeMap;

use crate::chaos::CancelAnswer;
use crate::invariants::Facts;
use crate::invariants::facts::{Task, is_infrastructure, kind};

/// Nothing waits, is queued or runs.
pub(super) fn all_ended(facts: &Facts) -> Vec<String> {
    let unfinished = facts
        .tasks
        .iter()
        .filter(|task| !task.has_ended() || task.outcome.is_none());
    unfinished
        .map(|task| {
            format!(
                "task {} of build {} is {} ({})",
                task.id,
                task.build_id,
                task.state,
                attempts(facts, task)
            )
        })
        .collect()
}

fn attempts(facts: &Facts, task: &Task) -> String {
    let words = |a: &&crate::invariants::Attempt| format!("attempt {} {}", a.id, a.state);
    let list: Vec<String> = facts.attempts_of(task.id).iter().map(words).collect();
    list.join(", ")
}

/// What a client saw as ended is what is stored.
pub(super) fn never_changes(facts: &Facts) -> Vec<String> {
    let tasks: BTreeMap<i64, &Task> = facts.tasks.iter().map(|task| (task.id, task)).collect();
    let mut found = Vec::new();
    for (id, seen) in &facts.known.seen {
        match tasks.get(id) {
            None => found.push(format!("task {id} was seen {} and is gone", seen.state)),
            Some(task) if task.state != seen.state => {
                found.push(format!(
                    "task {id} was seen {} and is {}",
                    seen.state, task.state
                ));
            }
            Some(task) if task.outcome.as_ref().map(kind) != Some(kind(&seen.outcome)) => {
                found.push(format!(
                    "task {id} was seen as {} and is {:?}",
                    kind(&seen.outcome),
                    task.outcome
                ));
            }
            Some(_) => {}
        }
    }
    found
}

/// A fixture ends as its table says, unless its build was cancelled, or all attempts ended in faults of ours.
pub(super) fn fits_sources(facts: &Facts) -> Vec<String> {
    let builds: BTreeMap<i64, _> = facts.builds.iter().map(|build| (build.id, build)).collect();
    let mut found = Vec::new();
    for task in facts.tasks.iter().filter(|task| task.has_ended()) {
        let (Some(outcome), Some(build)) = (&task.outcome, builds.get(&task.build_id)) else {
            continue;
        };
        let name = |source: &String| source.trim_end_matches(".src.rpm").to_owned();
        let expected: Option<Vec<&String>> = build
            .sources
            .iter()
            .map(|s| facts.expected.get(&name(s)))
            .collect();
        let Some(expected) = expected else { continue };
        let good = |kind: &str| matches!(kind, "succeeded" | "skipped");
        let fits = match task.state.as_str() {
            "succeeded" => expected.iter().all(|kind| good(kind)),
            "failed" if is_infrastructure(outcome) => task.attempts_counted == 3,
            "failed" => expected
                .iter()
                .find(|kind| !good(kind))
                .is_some_and(|first| *first == kind(outcome)),
            _ => true,
        };
        if !fits {
            found.push(format!(
                "task {} of {:?} is {} with {outcome}",
                task.id, build.sources, task.state
            ));
        }
    }
    found
}

/// A build whose cancel was accepted is cancelled, or had work done that is kept; one that nobody wanted cancelled is not.
pub(super) fn cancels(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for task in &facts.tasks {
        let asked = facts.known.cancels.get(&task.build_id);
        let broken = matches!(
            (asked, task.state.as_str()),
            (Some(CancelAnswer::Accepted), "failed")
                | (None | Some(CancelAnswer::TooLate), "cancelled")
        );
        if broken {
            found.push(format!(
                "task {} of build {} is {}, its cancel: {asked:?}",
                task.id, task.build_id, task.state
            ));
        }
    }
    found
}
