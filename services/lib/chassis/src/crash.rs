//! Crash points: a test names one, and the process is killed when it comes by. Only with the feature `crash-points`;
//! without it [`crash_point!`](crate::crash_point) leaves no code behind.

/// Ends the process as `kill -9` does, where a test asked for it: `MILLRACE_CRASH_AT=claim.recorded`, or
/// `claim.recorded#3` for the third passage.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::pass_crash_point($name)
    };
}

/// Nothing: this program was compiled without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {};
}

#[cfg(feature = "crash-points")]
pub use armed::{CRASH_VARIABLE, pass_crash_point};

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The variable that names the point at which to die.
    pub const CRASH_VARIABLE: &str = "MILLRACE_CRASH_AT";

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

    /// The crash point at which the process kills itself, and at which passage.
    #[derive(Debug)]
    struct Plan {
        name: String,
        passages: AtomicU32,
    }

    impl Plan {
        fn parse(text: &str) -> Self {
            let (name, nth) = text.split_once('#').unwrap_or((text, "1"));
            // A number that is none must not make a test pass by never dying: it is part of the name then.
            let (name, nth) = nth.parse().map_or((text, 1), |nth| (name, nth));
            Self {
                name: name.to_owned(),
                passages: AtomicU32::new(nth),
            }
        }

        /// Whether this passage is the one.
        fn is_due(&self, name: &str) -> bool {
            self.name == name && self.passages.fetch_sub(1, Ordering::Relaxed) == 1
        }
    }

    /// Passes a point; see [`crash_point!`](crate::crash_point).
    pub fn pass_crash_point(name: &str) {
        let plan = PLAN.get_or_init(|| {
            std::env::var(CRASH_VARIABLE)
                .ok()
                .map(|it| Plan::parse(&it))
        });
        if plan.as_ref().is_some_and(|plan| plan.is_due(name)) {
            eprintln!("killed at the crash point {name}");
            if let Err(error) = kill_process(getpid(), Signal::KILL) {
                eprintln!("cannot be killed: {error}");
            }
            // The signal may come a moment later; nothing more is to happen until then.
            loop {
                std::thread::park();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Plan;

        #[test]
        fn the_nth_passage_of_the_named_point_is_due_once() {
            let plan = Plan::parse("upload.sent#2");
            let passed = [
                "upload.sent",
                "claim.recorded",
                "upload.sent",
                "upload.sent",
            ];
            assert_eq!(
                passed.map(|name| plan.is_due(name)),
                [false, false, true, false]
            );
            assert!(Plan::parse("claim.recorded").is_due("claim.recorded"));
            assert!(!Plan::parse("claim.recorded#x").is_due("claim.recorded"));
        }
    }
}
