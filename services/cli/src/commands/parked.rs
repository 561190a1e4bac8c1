//! `millrace parked list`: messages that were taken out of the flow, with the reason.

use serde_json::Value;

use crate::client::{Answer, with_query};
use crate::config::Config;
use crate::exit::Ending;
use crate::output::Output;
use crate::render;

/// Lists parked messages, newest first.
pub async fn list(
    config: &Config,
    limit: u32,
    before: Option<i64>,
    output: Output,
) -> anyhow::Result<Ending> {
    let path = with_query(
        "/api/v1/parked",
        &[
            ("limit", Some(limit.to_string())),
            ("before", before.map(|id| id.to_string())),
        ],
    );
    let answer: Answer<Value> = config.client.get(&path).await?;
    output.print(&answer.json, || render::parked::list(&answer.json));
    Ok(Ending::Done)
}
