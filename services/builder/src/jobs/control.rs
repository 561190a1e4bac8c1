//! Hints from the frontend, which only make things faster: each is said again by the next heartbeat's answer.

use std::sync::Arc;

use millrace_bus::{Bus, ConsumerOptions, Incoming, Verdict, control_queue, run_consumer};
use millrace_chassis::CancellationToken;
use millrace_wire::ControlV1;

use crate::context::Context;

/// Follows hints until `stop`.
pub async fn run(ctx: Arc<Context>, bus: Bus, stop: CancellationToken) -> anyhow::Result<()> {
    let options = ConsumerOptions::new(control_queue(ctx.builder), 1);
    run_consumer(&bus, options, stop, move |incoming| {
        let verdict = handle(&ctx, &incoming);
        std::future::ready(verdict)
    })
    .await;
    Ok(())
}

fn handle(ctx: &Context, incoming: &Incoming) -> Verdict {
    match incoming.decode::<ControlV1>() {
        Ok(envelope) => {
            if let ControlV1::Cancel { attempt_id } = envelope.body
                && let Some(running) = ctx.registry.get(attempt_id)
            {
                running.cancel();
            }
            ctx.heartbeat_wake.notify_one();
            Verdict::Done
        }
        Err(verdict) => verdict,
    }
}
