//! Rules about attempts.

use std::collections::{BTreeMap, BTreeSet};

use crate::invariants::Facts;
use crate::invariants::facts::{Attempt, is_infrastructure, kind};

/// Attempts of a task are numbered from 1, and there are as many as were made.
pub(super) fn numbered(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for task in &facts.tasks {
        let numbers: Vec<i64> = facts
            .attempts_of(task.id)
            .iter()
            .map(|a| a.number)
            .collect();
        let wanted: Vec<i64> = (1..=task.attempts_made).collect();
        if numbers != wanted {
            found.push(format!(
                "task {} made {} attempts and has {numbers:?}",
                task.id, task.attempts_made
            ));
        }
    }
    found
}

/// An attempt whose report was accepted as the task's outcome.
fn is_accepted(attempt: &Attempt) -> bool {
    attempt.state == "finished" && !attempt.outcome.as_ref().is_some_and(is_infrastructure)
}

/// An attempt after which a task may be raised: its outcome is not the task's then.
fn hit_a_limit(attempt: &Attempt) -> bool {
    let kind = attempt.outcome.as_ref().map(kind);
    matches!(kind, Some("out_of_memory" | "timed_out" | "disk_full"))
}

/// A task has at most one accepted attempt, not counting one after which it was raised; it is the current and the last one, and its outcome is the task's.
pub(super) fn one_accepted(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let imported: BTreeSet<i64> = (facts.builds.iter().filter(|build| build.imported))
        .map(|build| build.id)
        .collect();
    for task in &facts.tasks {
        let attempts = facts.attempts_of(task.id);
        if attempts.is_empty() && imported.contains(&task.build_id) {
            continue;
        }
        let mut accepted: Vec<&Attempt> = attempts
            .iter()
            .copied()
            .filter(|attempt| is_accepted(attempt))
            .collect();
        if task.raised && accepted.first().is_some_and(|first| hit_a_limit(first)) {
            accepted.remove(0);
        }
        let ids: Vec<&str> = accepted.iter().map(|a| a.id.as_str()).collect();
        let fault = match (task.state.as_str(), accepted.as_slice()) {
            ("succeeded", []) => Some("succeeded without an accepted attempt"),
            (_, [_, _, ..]) => Some("has several accepted attempts"),
            ("waiting" | "queued" | "running", [_]) => Some("goes on after an accepted attempt"),
            (_, [one]) if task.current_attempt.as_deref() != Some(&one.id) => {
                Some("counts another attempt than the accepted one")
            }
            (_, [one]) if attempts.last().is_some_and(|last| last.id != one.id) => {
                Some("was tried again after an accepted attempt")
            }
            ("succeeded" | "failed", [one])
                if one.outcome.as_ref().map(kind) != task.outcome.as_ref().map(kind) =>
            {
                Some("has another outcome than its accepted attempt")
            }
            _ => None,
        };
        if let Some(fault) = fault {
            found.push(format!(
                "task {} of build {} {fault}: {ids:?}",
                task.id, task.build_id
            ));
        }
    }
    found
}

/// An attempt is a builder's or a poller's. What was accepted of a build is all of one side, and what the queue had no
/// poller gets afterwards.
pub(super) fn one_owner(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let mut sides: BTreeMap<i64, BTreeSet<Option<i64>>> = BTreeMap::new();
    for task in &facts.tasks {
        let mut in_queue = false;
        for attempt in facts.attempts_of(task.id) {
            let (id, poller) = (&attempt.id, attempt.poller);
            if attempt.of_builder && poller.is_some() {
                found.push(format!(
                    "attempt {id} is a builder's and poller {poller:?}'s"
                ));
            }
            if in_queue && poller.is_some() {
                found.push(format!(
                    "attempt {id} of poller {poller:?} follows one of the queue"
                ));
            }
            in_queue |= poller.is_none();
            if is_accepted(attempt) {
                sides.entry(task.build_id).or_default().insert(poller);
            }
        }
    }
    let torn = sides.into_iter().filter(|(_, owners)| owners.len() > 1);
    found.extend(torn.map(|(build, owners)| format!("build {build} was built by {owners:?}")));
    found
}

/// An attempt counts when a builder had it and it ended in a fault of ours; after three the task has failed.
pub(super) fn counted(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for task in &facts.tasks {
        let faults = facts.attempts_of(task.id).into_iter().filter(|attempt| {
            attempt.claimed
                && (attempt.state == "lost"
                    || attempt.state == "finished"
                        && attempt.outcome.as_ref().is_some_and(is_infrastructure))
        });
        let faults = i64::try_from(faults.count()).unwrap_or(i64::MAX);
        // The last one of a task that was cancelled meanwhile does not count.
        let spared = i64::from(task.state == "cancelled");
        let fits = task.attempts_counted <= faults && faults <= task.attempts_counted + spared;
        if task.attempts_counted > 3 || !fits {
            found.push(format!(
                "task {} counts {} attempts, {faults} ended in a fault of ours",
                task.id, task.attempts_counted
            ));
        }
    }
    found
}

/// No lease and no offer is left.
pub(super) fn none_alive(facts: &Facts) -> Vec<String> {
    let alive = facts
        .attempts
        .iter()
        .filter(|a| matches!(a.state.as_str(), "offered" | "claimed"));
    alive
        .map(|a| format!("attempt {} of task {} is {}", a.id, a.task_id, a.state))
        .collect()
}
