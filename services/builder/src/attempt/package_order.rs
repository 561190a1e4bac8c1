//! The order in which the packages of an attempt are tried: first as they are listed. A package that does not build, or
//! lacks a dependency, is tried again once another has been built since, whose results may be what it lacked (pollers of
//! 2012 did so with a list of packages). Other failures, such as a limit that was hit, are not tried again.
//!
//! A first try has the package's whole time limit. Later tries share the rest of the sum of all time limits.

use std::time::Duration;

use millrace_domain::OutcomeKind;

/// The shortest time limit with which a try is begun, in seconds.
const SHORTEST_TRY: u32 = 10;

/// One try of one package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// Index of the package among the job's sources, from 0.
    pub index: usize,
    /// The try's time limit, in seconds.
    pub timeout_seconds: u32,
    /// The package was tried before.
    pub is_repeat: bool,
    /// The time limit is shorter than the package's own, since the rest of the sum was less.
    pub is_cut_short: bool,
}

/// The state of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PackageState {
    Untried,
    /// Its last try failed; `built` packages had been built by then.
    Failed {
        built: usize,
    },
    /// Not tried again: built, reused, or failed for a reason that another package does not change.
    Done,
}

/// Which package of an attempt is tried next.
#[derive(Debug)]
pub struct PackageOrder {
    limit_seconds: u32,
    /// The rest of the sum of all time limits.
    left: Duration,
    packages: Vec<PackageState>,
    /// Packages that were built so far.
    built: usize,
}

/// Whether a package that failed so may build once another package of the same build is there.
pub fn may_build_after_others(kind: OutcomeKind) -> bool {
    match kind {
        OutcomeKind::BuildFailed | OutcomeKind::DependencyFailed => true,
        OutcomeKind::Succeeded
        | OutcomeKind::SourceFailed
        | OutcomeKind::OutOfMemory
        | OutcomeKind::TimedOut
        | OutcomeKind::Silent
        | OutcomeKind::LogTooLarge
        | OutcomeKind::DiskFull
        | OutcomeKind::Skipped
        | OutcomeKind::Cancelled
        | OutcomeKind::BuilderLost
        | OutcomeKind::BuilderDiskFull
        | OutcomeKind::SandboxFailed
        | OutcomeKind::RepositoryUnreachable
        | OutcomeKind::InternalError => false,
    }
}

impl PackageOrder {
    /// The order of `packages` packages, none tried yet, each with a time limit of `limit_seconds`.
    pub fn new(packages: usize, limit_seconds: u32) -> Self {
        let count = u32::try_from(packages).unwrap_or(u32::MAX);
        Self {
            limit_seconds,
            left: Duration::from_secs(limit_seconds.into()).saturating_mul(count),
            packages: vec![PackageState::Untried; packages],
            built: 0,
        }
    }

    /// Leaves a package out: it is reused from an earlier attempt.
    pub fn skip(&mut self, index: usize) {
        if let Some(package) = self.packages.get_mut(index) {
            *package = PackageState::Done;
        }
    }

    /// The next try; none when every package is done, or no other was built since it failed, or the time is used up.
    pub fn next(&self) -> Option<Try> {
        let first = self.find(|state| state == PackageState::Untried);
        if let Some(index) = first {
            return Some(Try {
                index,
                timeout_seconds: self.limit_seconds,
                is_repeat: false,
                is_cut_short: false,
            });
        }
        let index = self
            .find(|state| matches!(state, PackageState::Failed { built } if built < self.built))?;
        let left = u32::try_from(self.left.as_secs()).unwrap_or(u32::MAX);
        (left >= SHORTEST_TRY).then(|| Try {
            index,
            timeout_seconds: left.min(self.limit_seconds),
            is_repeat: true,
            is_cut_short: left < self.limit_seconds,
        })
    }

    /// Records how a try ended and how long its sandbox ran.
    pub fn record_try(&mut self, this_try: &Try, kind: OutcomeKind, took: Duration) {
        self.left = self.left.saturating_sub(took);
        let state = if may_build_after_others(kind) {
            PackageState::Failed { built: self.built }
        } else {
            PackageState::Done
        };
        if let Some(package) = self.packages.get_mut(this_try.index) {
            *package = state;
        }
        self.built += usize::from(kind == OutcomeKind::Succeeded);
    }

    fn find(&self, is_it: impl Fn(PackageState) -> bool) -> Option<usize> {
        self.packages.iter().position(|state| is_it(*state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutcomeKind::{BuildFailed, DependencyFailed, OutOfMemory, Skipped, Succeeded, TimedOut};

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs all tries; gives the packages that were tried, in order.
    fn play(
        order: &mut PackageOrder,
        took: Duration,
        mut end: impl FnMut(&Try) -> OutcomeKind,
    ) -> Vec<usize> {
        let mut tried = Vec::new();
        while let Some(this_try) = order.next() {
            tried.push(this_try.index);
            assert!(tried.len() < 100, "it never ends: {tried:?}");
            let kind = end(&this_try);
            order.record_try(&this_try, kind, took);
        }
        tried
    }

    #[test]
    fn what_builds_is_built_once_in_order() {
        let mut order = PackageOrder::new(3, 60);
        assert_eq!(play(&mut order, SECOND, |_| Succeeded), [0, 1, 2]);
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_built_all_the_same() {
        // Each needs the one behind it.
        let mut built = [false; 4];
        let mut order = PackageOrder::new(3, 60);
        let tried = play(&mut order, SECOND, |this_try| {
            let is_last = this_try.index == 2;
            if is_last || built[this_try.index + 1] {
                built[this_try.index] = true;
                Succeeded
            } else {
                DependencyFailed
            }
        });
        assert_eq!(tried, [0, 1, 2, 0, 1, 0]);
    }

    #[test]
    fn what_never_builds_is_not_tried_without_end() {
        let mut order = PackageOrder::new(2, 60);
        let tried = play(&mut order, SECOND, |this_try| {
            [BuildFailed, Succeeded][this_try.index]
        });
        assert_eq!(tried, [0, 1, 0]);
        let mut order = PackageOrder::new(2, 60);
        let tried = play(&mut order, SECOND, |this_try| {
            [Succeeded, BuildFailed][this_try.index]
        });
        assert_eq!(tried, [0, 1], "it had the other's results already");
    }

    #[test]
    fn a_hit_limit_is_not_cured_by_another_package() {
        for kind in [OutOfMemory, TimedOut, Skipped] {
            let mut order = PackageOrder::new(2, 60);
            let tried = play(&mut order, SECOND, |this_try| {
                [kind, Succeeded][this_try.index]
            });
            assert_eq!(tried, [0, 1], "{kind}");
        }
    }

    #[test]
    fn all_tries_together_keep_the_sum_of_the_limits() {
        let mut order = PackageOrder::new(2, 60);
        let mut given = Vec::new();
        play(&mut order, 45 * SECOND, |this_try| {
            given.push((this_try.timeout_seconds, this_try.is_cut_short));
            [BuildFailed, Succeeded][this_try.index]
        });
        assert_eq!(given, [(60, false), (60, false), (30, true)]);
        let mut order = PackageOrder::new(2, 60);
        let tried = play(&mut order, 56 * SECOND, |this_try| {
            [BuildFailed, Succeeded][this_try.index]
        });
        assert_eq!(tried, [0, 1], "eight seconds are no try");
    }
}
