//! Crash points: named places in front of and behind each durable step, at which a test has the process killed. Whoever
//! passes one calls a hook that no deployed program sets.

use std::sync::OnceLock;

/// What is called with the name of each crash point that the process passes.
pub type CrashHook = fn(name: &'static str);

static HOOK: OnceLock<CrashHook> = OnceLock::new();

/// Passes the crash point `name`: nothing happens unless a test program has set a hook.
pub fn crash_point(name: &'static str) {
    if let Some(hook) = HOOK.get() {
        hook(name);
    }
}

/// Sets the hook of this process, once; a second call changes nothing. For `tests/programs` alone.
pub fn set_crash_hook(hook: CrashHook) {
    // The first hook stays: there is one caller, and it calls before the program starts.
    let _ = HOOK.set(hook);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{crash_point, set_crash_hook};

    static PASSED: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_point_calls_the_hook_that_was_set_first_and_nothing_before() {
        crash_point("before.hook");
        set_crash_hook(|name| {
            assert_eq!(name, "behind.hook");
            PASSED.fetch_add(1, Ordering::Relaxed);
        });
        set_crash_hook(|_| PASSED.store(100, Ordering::Relaxed));
        crash_point("behind.hook");
        assert_eq!(PASSED.load(Ordering::Relaxed), 1);
    }
}
