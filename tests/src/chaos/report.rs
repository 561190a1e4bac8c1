//! What a run tells at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::faults::Done;
use crate::invariants::{Facts, Harm, Violation};

/// Violations of one rule that are listed at most.
const LISTED: usize = 20;

/// The end of a run.
#[derive(Debug)]
pub struct Report {
    /// What named the plan.
    pub seed: u64,
    /// How long faults were made, in minutes.
    pub minutes: f64,
    /// What was done.
    pub done: Done,
    /// What is left.
    pub facts: Facts,
    /// Where it is not what it must be.
    pub violations: Vec<Violation>,
    /// What still moved when the time was over.
    pub moving: Option<String>,
    /// Processes that ended by themselves and were started again.
    pub ended_alone: Vec<String>,
    /// Logs, spools and results.
    pub folder: PathBuf,
}

impl Report {
    /// Whether all is well.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.done.problems.is_empty() && self.moving.is_none()
    }

    fn count(&self, harm: Harm) -> usize {
        self.violations
            .iter()
            .filter(|violation| violation.harm == harm)
            .count()
    }

    fn tasks_by_state(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for task in &self.facts.tasks {
            *counts.entry(task.state.as_str()).or_default() += 1;
        }
        counts
    }

    fn attempts_by_state(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for attempt in &self.facts.attempts {
            *counts.entry(attempt.state.as_str()).or_default() += 1;
        }
        counts
    }

    fn list(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
        for violation in &self.violations {
            let count = listed.entry(violation.rule).or_default();
            *count += 1;
            match (*count).cmp(&(LISTED + 1)) {
                std::cmp::Ordering::Less => writeln!(f, "VIOLATION {violation}")?,
                std::cmp::Ordering::Equal => writeln!(f, "VIOLATION {}: and more", violation.rule)?,
                std::cmp::Ordering::Greater => {}
            }
        }
        for problem in &self.done.problems {
            writeln!(f, "PROBLEM {problem}")?;
        }
        if let Some(moving) = &self.moving {
            writeln!(f, "STUCK at the end of the time: {moving}")?;
        }
        if !self.passed() {
            writeln!(
                f,
                "logs of all processes, spools and results: {}",
                self.folder.display()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.done.counts {
            writeln!(f, "{count:>5} times  {kind}")?;
        }
        writeln!(f, "tasks: {:?}", self.tasks_by_state())?;
        writeln!(f, "attempts: {:?}", self.attempts_by_state())?;
        for ended in &self.ended_alone {
            writeln!(f, "started again as its service manager would: {ended}")?;
        }
        self.list(f)?;
        write!(
            f,
            "chaos: seed {}, {:.1} minutes, {} tasks, {} faults of {} kinds; lost {}, doubled {}, stuck {}, stale {}, leftovers {}, wrong {}: {}",
            self.seed,
            self.minutes,
            self.facts.tasks.len(),
            self.done.total(),
            self.done.counts.len(),
            self.count(Harm::Lost),
            self.count(Harm::Doubled),
            self.count(Harm::Stuck) + usize::from(self.moving.is_some()),
            self.count(Harm::Stale),
            self.count(Harm::Leftover),
            self.count(Harm::Wrong) + self.done.problems.len(),
            if self.passed() { "PASSED" } else { "FAILED" }
        )
    }
}
