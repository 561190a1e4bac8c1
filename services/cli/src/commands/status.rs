//! `millrace status`: how the server, its broker, its database and its builders are.

use serde_json::Value;

use crate::client::Answer;
use crate::config::Config;
use crate::exit::Ending;
use crate::output::Output;
use crate::render::fields;

/// Shows the status, one fact a line.
pub async fn show(config: &Config, output: Output) -> anyhow::Result<Ending> {
    let answer: Answer<Value> = config.client.get("/api/v1/status").await?;
    output.print(&answer.json, || fields::lines(&answer.json));
    Ok(Ending::Done)
}
