//! The rules: one pure function each, from facts to violations.

mod attempts;
mod leftovers;
mod outcomes;
mod results;
mod submissions;
#[cfg(test)]
mod tests;

use std::fmt;

use super::Facts;

/// What a violation means for those who build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Something that was promised is gone.
    Lost,
    /// Something that happens once happened twice, or what had ended changed.
    Doubled,
    /// Something does not come to its end.
    Stuck,
    /// Something of an attempt that does not count is in a result.
    Stale,
    /// Something was not cleaned up.
    Leftover,
    /// Something is not what it must be.
    Wrong,
}

/// One place where a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What it means.
    pub harm: Harm,
    /// What was found, with numbers and ids.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.harm, self.rule, self.what)
    }
}

/// A rule.
pub struct Rule {
    /// What must be true.
    pub name: &'static str,
    /// What it means when it is not.
    pub harm: Harm,
    /// Finds where it does not hold.
    pub find: fn(&Facts) -> Vec<String>,
}

const fn rule(harm: Harm, name: &'static str, find: fn(&Facts) -> Vec<String>) -> Rule {
    Rule { name, harm, find }
}

/// All rules.
pub const RULES: &[Rule] = &[
    rule(
        Harm::Lost,
        "an answered submission is stored whole",
        submissions::stored,
    ),
    rule(
        Harm::Doubled,
        "a key stores one build",
        submissions::one_build_a_key,
    ),
    rule(
        Harm::Doubled,
        "each build was submitted",
        submissions::none_from_nowhere,
    ),
    rule(
        Harm::Wrong,
        "no submission is refused",
        submissions::none_refused,
    ),
    rule(
        Harm::Wrong,
        "nothing contradicts itself while it runs",
        submissions::no_contradiction,
    ),
    rule(Harm::Stuck, "each task has ended", outcomes::all_ended),
    rule(
        Harm::Doubled,
        "what had ended never changes",
        outcomes::never_changes,
    ),
    rule(
        Harm::Wrong,
        "an outcome fits its sources",
        outcomes::fits_sources,
    ),
    rule(
        Harm::Wrong,
        "a cancel is kept, and nothing else cancels",
        outcomes::cancels,
    ),
    rule(
        Harm::Lost,
        "attempts are numbered without a gap",
        attempts::numbered,
    ),
    rule(
        Harm::Doubled,
        "one attempt is accepted, the current and last one",
        attempts::one_accepted,
    ),
    rule(
        Harm::Doubled,
        "a build has one owner, and the queue never gives it back",
        attempts::one_owner,
    ),
    rule(
        Harm::Wrong,
        "at most three attempts count, and only faults of ours",
        attempts::counted,
    ),
    rule(
        Harm::Leftover,
        "no attempt is on offer or claimed",
        attempts::none_alive,
    ),
    rule(
        Harm::Lost,
        "an accepted attempt tells of each package",
        results::packages_told,
    ),
    rule(
        Harm::Stale,
        "results belong to accepted attempts",
        results::of_accepted,
    ),
    rule(
        Harm::Lost,
        "the bytes of results are what was promised",
        results::bytes,
    ),
    rule(
        Harm::Leftover,
        "the store holds no file that no result names",
        results::no_strays,
    ),
    rule(Harm::Lost, "the log of an attempt is whole", results::logs),
    rule(
        Harm::Lost,
        "the sources of builds are stored",
        results::sources,
    ),
    rule(
        Harm::Leftover,
        "no upload is left half done",
        leftovers::staged,
    ),
    rule(
        Harm::Leftover,
        "no order is left to publish",
        leftovers::outbox,
    ),
    rule(Harm::Leftover, "nothing is parked", leftovers::parked),
    rule(
        Harm::Leftover,
        "no room is kept for a task",
        leftovers::reserved,
    ),
    rule(
        Harm::Leftover,
        "no message is left in a queue",
        leftovers::messages,
    ),
    rule(
        Harm::Leftover,
        "no queue is left of a builder that is gone",
        leftovers::queues,
    ),
    rule(Harm::Leftover, "no sandbox is left", leftovers::containers),
    rule(
        Harm::Leftover,
        "nothing is left in a spool",
        leftovers::spooled,
    ),
    rule(
        Harm::Leftover,
        "a builder at rest has all its room",
        leftovers::room,
    ),
    rule(
        Harm::Stuck,
        "every process runs and none has panicked",
        leftovers::processes,
    ),
];

/// Applies all rules.
pub fn check(facts: &Facts) -> Vec<Violation> {
    let violations = |rule: &Rule| {
        let (name, harm) = (rule.name, rule.harm);
        let found = (rule.find)(facts).into_iter();
        found
            .map(move |what| Violation {
                rule: name,
                harm,
                what,
            })
            .collect::<Vec<_>>()
    };
    RULES.iter().flat_map(violations).collect()
}
