//! Programs for tests and measurements, in a package of their own so that the suites do not wait for them.
//!
//! `crash-frontend` and `crash-builder` are what the crash suite runs: the programs of the product, from the same libraries,
//! with a hook at the crash points that kills the process at the one which `MILLRACE_CRASH_AT` names. `millrace-bench` is
//! `make bench`, `millrace-chaos` is `make chaos`.

mod crash_plan;

use std::sync::OnceLock;

use crash_plan::Plan;
use rustix::process::{Signal, getpid, kill_process};

/// The variable that names the point at which to die: `claim.recorded`, or `claim.recorded#3` for the third passage.
const VARIABLE: &str = "MILLRACE_CRASH_AT";

static PLAN: OnceLock<Plan> = OnceLock::new();

/// Has this process killed, as `kill -9` does, where the variable `MILLRACE_CRASH_AT` says so.
pub fn arm() {
    if let Ok(text) = std::env::var(VARIABLE) {
        PLAN.get_or_init(|| Plan::parse(&text));
        millrace_chassis::set_crash_hook(die_if_due);
    }
}

fn die_if_due(name: &'static str) {
    if !PLAN.get().is_some_and(|plan| plan.is_due(name)) {
        return;
    }
    eprintln!("killed at the crash point {name}");
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        eprintln!("cannot be killed: {error}");
    }
    // The signal may come a moment later; nothing more is to happen until then.
    loop {
        std::thread::park();
    }
}
