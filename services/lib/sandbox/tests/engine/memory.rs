//! The memory limit: who dies, who lives, and what the report says.

use millrace_supervisor::StepEnd;

use crate::harness::{Harness, MIB, plan};

/// Keeps what it reads in memory, whatever that is, and is far larger than the sandbox.
const HOG: &str = "head -c 900M /dev/zero | tail -c 800M >/dev/null";

#[tokio::test]
async fn a_build_that_survives_a_kill_is_not_without_a_note_of_it() {
    let harness = Harness::open().await;
    let script = format!("sh -c '{HOG}' || true; echo went on; exit 0");
    let finished = harness.run(plan(&script, 60)).await;
    let report = finished.report();
    assert_eq!(report.exit_code(), Some(0));
    assert!(report.oom_kills >= 1, "{report:?}");
    assert_eq!(report.memory_limit_bytes, Some(256 * MIB));
    assert!(report.peak_memory_bytes > 128 * MIB, "{report:?}");
    assert!(report.peak_memory_bytes <= 257 * MIB, "{report:?}");
    assert!(finished.log.ends_with("went on\n"));
}

#[tokio::test]
async fn the_supervisor_outlives_the_death_of_everything_else() {
    let harness = Harness::open().await;
    let hogs = format!("for n in 1 2 3 4 5 6; do ({HOG}) & done; exec tail /dev/zero");
    let finished = harness.run(plan(&hogs, 60)).await;
    let report = finished.report();
    assert!(report.oom_kills >= 1, "{report:?}");
    assert_eq!(report.steps[0].end, StepEnd::Signal(9));
    let next = harness.run(plan("echo next", 60)).await;
    assert!(next.report().is_clean() && next.report().oom_kills == 0);
}

#[tokio::test]
async fn page_cache_is_no_memory_of_the_build() {
    let harness = Harness::open().await;
    let script = "dd if=/dev/zero of=/big bs=1M count=400 2>/dev/null; rm /big";
    let finished = harness.run(plan(script, 60)).await;
    let report = finished.report();
    assert!(report.is_clean() && report.oom_kills == 0, "{report:?}");
    assert!(report.peak_memory_bytes < 100 * MIB, "{report:?}");
    let with_cache = report.peak_memory_with_cache_bytes.unwrap();
    assert!(with_cache > report.peak_memory_bytes, "{report:?}");
}
