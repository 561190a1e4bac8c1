//! What ends a sandbox early, and how: SIGINT to all, a grace, SIGKILL to all, a bounded drain.
//!
//! ```text
//! running ─▶ ending (SIGINT sent, until grace) ─▶ killed (SIGKILL sent, until drained)
//!    └──────────────────────── builder gone ────────▲
//! ```
//!
//! Each limit is one [`Cause`]; the first that is hit is the one in the report.

use std::time::{Duration, Instant};

use crate::protocol::LimitHit;

/// How long the rest of the output may take after everything was killed. With the longest grace it
/// keeps the end of a timed-out sandbox within 15 s of its limit.
pub(crate) const DRAIN: Duration = Duration::from_secs(4);

/// Reason to end a sandbox early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The wall limit was hit.
    TimedOut,
    /// No output for too long.
    Silent,
    /// The log's hard limit was hit.
    LogTooLarge,
    /// The limit on disk space was hit.
    DiskFull,
    /// A cancel of the requester, or a signal of the engine.
    Cancelled,
    /// The builder is gone.
    Abandoned,
}

/// Progress of an early end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// No cause so far.
    Running,
    /// Everything was interrupted and is killed at this moment.
    Ending(Instant),
    /// Everything was killed; output is taken until this moment.
    Killed(Instant),
}

/// What to do to all processes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send SIGINT to all processes.
    Interrupt,
    /// Send SIGKILL to all processes.
    Kill,
}

/// The wall limit of a sandbox, the causes to end it, and the progress of that end.
#[derive(Debug)]
pub(crate) struct Limits {
    wall: Instant,
    timeout_grace: Duration,
    cancel_grace: Duration,
    /// Progress of the early end.
    pub(crate) course: Course,
    /// Why it is ended, each cause once, the first one first.
    pub(crate) causes: Vec<Cause>,
}

impl Limits {
    pub(crate) fn new(wall: Instant, timeout_grace: Duration, cancel_grace: Duration) -> Self {
        Self {
            wall,
            timeout_grace,
            cancel_grace,
            course: Course::Running,
            causes: Vec::new(),
        }
    }

    /// The next moment at which the clock alone changes something.
    pub(crate) fn deadline(&self) -> Instant {
        match self.course {
            Course::Running => self.wall,
            Course::Ending(at) | Course::Killed(at) => at,
        }
    }

    /// Whether the wall limit is reached.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.wall
    }

    /// Whether there was a cause to end early.
    pub(crate) fn is_ending(&self) -> bool {
        self.course != Course::Running
    }

    /// The limit that was hit first.
    pub(crate) fn hit(&self) -> Option<LimitHit> {
        self.causes.iter().find_map(|cause| match cause {
            Cause::TimedOut => Some(LimitHit::Time),
            Cause::Silent => Some(LimitHit::Silence),
            Cause::LogTooLarge => Some(LimitHit::Log),
            Cause::DiskFull => Some(LimitHit::Disk),
            Cause::Cancelled | Cause::Abandoned => None,
        })
    }

    /// Whether the drain after a kill is over.
    pub(crate) fn is_drained(&self, now: Instant) -> bool {
        matches!(self.course, Course::Killed(until) if now >= until)
    }

    /// Ends the sandbox for a cause. A second cause may only bring the kill nearer.
    pub(crate) fn end(&mut self, cause: Cause, now: Instant) -> Option<Action> {
        if self.causes.contains(&cause) {
            return None;
        }
        if matches!(self.course, Course::Killed(_)) {
            return None;
        }
        self.causes.push(cause);
        let grace = match cause {
            Cause::TimedOut | Cause::Silent => self.timeout_grace,
            // A build that fills a disk or a log goes on filling it during the grace.
            Cause::Cancelled | Cause::LogTooLarge | Cause::DiskFull => self.cancel_grace,
            Cause::Abandoned => return Some(self.kill(now)),
        };
        match self.course {
            Course::Running => {
                self.course = Course::Ending(now + grace);
                Some(Action::Interrupt)
            }
            Course::Ending(at) => {
                self.course = Course::Ending(at.min(now + grace));
                None
            }
            Course::Killed(_) => None,
        }
    }

    /// What is due by the clock. `is_step_over` says that the step's own process has ended: the grace was for that
    /// process, and others get none.
    pub(crate) fn tick(&mut self, now: Instant, is_step_over: bool) -> Option<Action> {
        match self.course {
            Course::Running if self.is_over(now) => self.end(Cause::TimedOut, now),
            Course::Ending(at) if now >= at || is_step_over => Some(self.kill(now)),
            Course::Running | Course::Ending(_) | Course::Killed(_) => None,
        }
    }

    fn kill(&mut self, now: Instant) -> Action {
        self.course = Course::Killed(now + DRAIN);
        Action::Kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(start: Instant) -> Limits {
        Limits::new(start + 60 * SECOND, 10 * SECOND, 3 * SECOND)
    }

    #[test]
    fn the_wall_limit_interrupts_waits_and_kills() {
        let start = Instant::now();
        let mut limits = limits(start);
        assert_eq!(limits.tick(start + 59 * SECOND, false), None);
        assert_eq!(
            limits.tick(start + 60 * SECOND, false),
            Some(Action::Interrupt)
        );
        assert_eq!(limits.tick(start + 69 * SECOND, false), None);
        assert_eq!(limits.tick(start + 70 * SECOND, false), Some(Action::Kill));
        assert_eq!(limits.tick(start + 71 * SECOND, false), None);
        assert!(limits.is_drained(start + 74 * SECOND));
        assert_eq!(limits.causes, [Cause::TimedOut]);
    }

    #[test]
    fn leftovers_get_no_grace() {
        let start = Instant::now();
        let mut limits = limits(start);
        limits.tick(start + 60 * SECOND, false);
        assert_eq!(limits.tick(start + 60 * SECOND, true), Some(Action::Kill));
    }

    #[test]
    fn a_cancel_during_the_grace_shortens_it() {
        let start = Instant::now();
        let mut limits = limits(start);
        limits.tick(start + 60 * SECOND, false);
        assert_eq!(limits.end(Cause::Cancelled, start + 61 * SECOND), None);
        assert_eq!(limits.end(Cause::Cancelled, start + 63 * SECOND), None);
        assert_eq!(limits.tick(start + 64 * SECOND, false), Some(Action::Kill));
    }

    #[test]
    fn the_first_limit_is_the_one_that_is_reported() {
        let start = Instant::now();
        let mut limits = limits(start);
        assert_eq!(
            limits.end(Cause::DiskFull, start + 59 * SECOND),
            Some(Action::Interrupt)
        );
        assert_eq!(limits.end(Cause::TimedOut, start + 60 * SECOND), None);
        assert_eq!(limits.hit(), Some(LimitHit::Disk));
        assert_eq!(limits.tick(start + 62 * SECOND, false), Some(Action::Kill));
    }

    #[test]
    fn nobody_waits_for_a_builder_that_is_gone() {
        let start = Instant::now();
        let mut limits = limits(start);
        assert_eq!(limits.end(Cause::Abandoned, start), Some(Action::Kill));
        assert_eq!(limits.end(Cause::Cancelled, start), None);
        assert_eq!(limits.causes, [Cause::Abandoned]);
    }

    #[test]
    fn every_limit_has_its_name_and_a_cancel_has_none() {
        for (cause, hit) in [
            (Cause::TimedOut, Some(LimitHit::Time)),
            (Cause::Silent, Some(LimitHit::Silence)),
            (Cause::LogTooLarge, Some(LimitHit::Log)),
            (Cause::DiskFull, Some(LimitHit::Disk)),
            (Cause::Cancelled, None),
            (Cause::Abandoned, None),
        ] {
            let start = Instant::now();
            let mut limits = limits(start);
            limits.end(cause, start);
            assert_eq!(limits.hit(), hit, "{cause:?}");
            assert!(limits.is_ending());
        }
    }

    #[test]
    fn the_next_deadline_follows_the_end() {
        let start = Instant::now();
        let mut limits = limits(start);
        assert_eq!(limits.deadline(), start + 60 * SECOND);
        limits.end(Cause::Cancelled, start + SECOND);
        assert_eq!(limits.deadline(), start + 4 * SECOND);
        limits.tick(start + 4 * SECOND, false);
        assert_eq!(limits.deadline(), start + 4 * SECOND + DRAIN);
        assert!(!limits.is_drained(start + 4 * SECOND));
    }

    #[test]
    fn a_second_cause_never_puts_the_kill_off() {
        let start = Instant::now();
        let mut limits = limits(start);
        limits.end(Cause::Cancelled, start);
        assert_eq!(limits.end(Cause::Silent, start + SECOND), None);
        assert_eq!(limits.deadline(), start + 3 * SECOND);
        assert_eq!(
            limits.end(Cause::Abandoned, start + 2 * SECOND),
            Some(Action::Kill)
        );
        let causes = [Cause::Cancelled, Cause::Silent, Cause::Abandoned];
        assert_eq!(limits.causes, causes);
    }
}
