//! The short form of `make chaos`: a fixed seed, no-op sandboxes, every invariant.

use millrace_tests::chaos::{Options, SandboxKind, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_short_chaos_loses_doubles_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder for the run");
    let options = Options {
        minutes: 0.7,
        sandbox: SandboxKind::Noop,
        tasks: 200,
        fault_seconds: Some(1.5),
        settle_minutes: 3.0,
        ..Options::default()
    };
    let report = run(&options, 4, folder.path().to_owned()).await;
    assert!(report.passed(), "{report}");
    assert!(report.done.total() >= 15, "{report}");
}
