//! What a frontend and a builder use of a processor while there is nothing to do.

use std::time::Duration;

use millrace_tests::{Pipeline, PipelineOptions, Sandbox, idle_share};

use crate::stats::Row;

/// How long is looked; a start's work is over before.
const LOOK: Duration = Duration::from_mins(1);

/// With the stand-in for sandboxes, and with a container engine.
pub async fn measure() -> Vec<Row> {
    let mut rows = Vec::new();
    for (sandbox, name) in [(Sandbox::Noop, "no-op"), (Sandbox::Mock, "containers")] {
        let pipeline = Pipeline::start(PipelineOptions {
            sandbox,
            ..PipelineOptions::default()
        })
        .await;
        let (frontend, builder) = idle_share(&pipeline, LOOK).await;
        pipeline.stop().await;
        for (part, share) in [("frontend", frontend), ("builder", builder)] {
            let name = format!("processor of an idle {part}, {name}");
            rows.push(Row::new(&name, share * 1000.0, "‰ of a core"));
        }
        let name = format!("processor of both together, {name}");
        let both = (frontend + builder) * 1000.0;
        rows.push(Row::new(&name, both, "‰ of a core").aim("< 10 ‰"));
    }
    rows
}
