//! Who has nothing to do does next to nothing.

use std::time::Duration;

use millrace_tests::{Pipeline, PipelineOptions, Sandbox, idle_share};

/// The aim is 1 % of a core in an optimised build on a quiet machine (`make bench`); a loop that spins uses all of one.
const LIMIT: f64 = 0.03;

#[tokio::test]
async fn an_idle_frontend_and_an_idle_builder_do_not_spin() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        ..PipelineOptions::default()
    })
    .await;
    let (frontend, builder) = idle_share(&pipeline, Duration::from_secs(20)).await;
    println!(
        "of a core: frontend {:.2} %, builder {:.2} %",
        frontend * 100.0,
        builder * 100.0
    );
    assert!(
        frontend + builder < LIMIT,
        "{frontend} and {builder} of a core"
    );
    pipeline.stop().await;
}
