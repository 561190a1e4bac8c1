//! Whose turn it is among the packages of an attempt. They are tried in their order. One that does not build, or lacks
//! a dependency, is tried again once another was built since, whose results may be what it lacked (pollers of 2012 did
//! so with a list of packages). Other failures, such as a limit that was hit, are not cured by another package.
//!
//! Each first try has the package's whole limit of time. Later ones share what is left of the sum of all limits.

use std::time::Duration;

use millrace_domain::OutcomeKind;

/// A try with less time than this is not begun, in seconds.
const SHORTEST_TRY: u32 = 10;

/// One try of one package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// Which package, counted from 0.
    pub index: usize,
    /// The time that it has, in seconds.
    pub timeout_seconds: u32,
    /// It was tried before.
    pub is_repeat: bool,
    /// Its time is what was left, less than the package's own limit.
    pub is_cut_short: bool,
}

/// How it stands with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PackageState {
    Untried,
    /// So many others were built when its last try began.
    Failed {
        built: usize,
    },
    Over,
}

/// The turns of an attempt.
#[derive(Debug)]
pub struct PackageOrder {
    limit_seconds: u32,
    left: Duration,
    packages: Vec<PackageState>,
    built: usize,
}

/// Whether a failure may be cured by what another package of the build brings.
pub fn may_be_cured(kind: OutcomeKind) -> bool {
    matches!(
        kind,
        OutcomeKind::BuildFailed | OutcomeKind::DependencyFailed
    )
}

impl PackageOrder {
    /// For so many packages, each with a limit on its time.
    pub fn new(packages: usize, limit_seconds: u32) -> Self {
        let count = u32::try_from(packages).unwrap_or(u32::MAX);
        Self {
            limit_seconds,
            left: Duration::from_secs(limit_seconds.into()).saturating_mul(count),
            packages: vec![PackageState::Untried; packages],
            built: 0,
        }
    }

    /// Says that a package needs no turn.
    pub fn skip(&mut self, index: usize) {
        if let Some(package) = self.packages.get_mut(index) {
            *package = PackageState::Over;
        }
    }

    /// The next try; none when nothing is left that could succeed.
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

    /// Notes how a try ended and how long its sandbox lived.
    pub fn record_try(&mut self, this_try: &Try, kind: OutcomeKind, took: Duration) {
        self.left = self.left.saturating_sub(took);
        let state = if may_be_cured(kind) {
            PackageState::Failed { built: self.built }
        } else {
            PackageState::Over
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

    /// Plays all turns; tells which packages were tried, in order.
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
