//! Proves from inside a sandbox that it can be cut off: package code must never run connected because an engine does
//! not do what it answers, or because something of the engine's answers in every container.

use std::path::Path;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use millrace_domain::{AttemptId, BuilderId};
use millrace_supervisor::{Network, Plan, SUPERVISOR_PATH, Step, StepEnd};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::SandboxError;
use crate::network::NetworkSpec;
use crate::profile::Profile;
use crate::runtime::Runtime;
use crate::self_test::ensure_image;
use crate::spec::{SandboxFiles, SandboxLimits, SandboxSpec};

/// Wall limit of the whole test, in seconds; it takes about one.
const WITHIN: u32 = 60;

/// How much of the log is read for a reason, in bytes.
const MAX_SAID: usize = 4096;

/// Starts a sandbox on the network, has it cut off, and lets it find out itself whether anything is open or answers, and
/// whether it reaches itself.
pub async fn self_test_network(
    engine: &Engine,
    builder: BuilderId,
    profile: Profile,
    supervisor: &Path,
    network: &NetworkSpec,
) -> Result<(), SandboxError> {
    let spec = SandboxSpec {
        attempt: AttemptId::generate(),
        builder,
        expires: Utc::now() + TimeDelta::minutes(5),
        image: ensure_image(engine, supervisor).await?,
        profile,
        device_nodes: true,
        limits: SandboxLimits {
            memory_bytes: 64 << 20,
            pids: 64,
            cpus: None,
        },
        network: Some(network.name.clone()),
        env: Vec::new(),
    };
    let files = SandboxFiles {
        programs: Vec::new(),
        packages: Vec::new(),
        supervisor: supervisor.to_owned(),
        plan: Plan::new(
            vec![
                check_links("before", None),
                check_links("after", Some(Network::Cut)),
            ],
            WITHIN,
        ),
        source: None,
        max_source_bytes: 0,
    };
    let runtime = Runtime::Engine(engine.clone());
    let mut handle = runtime.start(&spec, &files).await?;
    let said = tokio::spawn(last_line(handle.take_log()));
    let ended = handle.wait().await;
    handle.remove().await?;
    // Its log ends with it at the latest.
    drop(handle);
    let said = said.await.unwrap_or_default();
    let steps = ended?.report.map(|report| report.steps).unwrap_or_default();
    let ends: Vec<&StepEnd> = steps.iter().map(|step| &step.end).collect();
    evaluate(&ends, &said).map_err(|reason| SandboxError::NetworkFailed {
        network: network.name.clone(),
        reason,
    })
}

/// A step that exits with 0 where the network is as expected: connected `before` the cut, empty `after` it. Otherwise it
/// says why.
fn check_links(name: &str, network: Option<Network>) -> Step {
    Step {
        name: name.to_owned(),
        argv: [SUPERVISOR_PATH, "selftest-links", name]
            .map(str::to_owned)
            .to_vec(),
        arguments_from: None,
        env: Vec::new(),
        stage: None,
        network,
        rounds: None,
    }
}

/// What the failing step said: the last line of the log.
async fn last_line(log: Option<mpsc::Receiver<Bytes>>) -> String {
    let Some(mut log) = log else {
        return String::new();
    };
    let mut text = Vec::new();
    while let Some(piece) = log.recv().await {
        let room = MAX_SAID.saturating_sub(text.len());
        text.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    let text = String::from_utf8_lossy(&text);
    text.lines().last().unwrap_or_default().to_owned()
}

fn evaluate(ends: &[&StepEnd], said: &str) -> Result<(), String> {
    match ends {
        [StepEnd::Exit(0), StepEnd::Exit(0)] => Ok(()),
        [StepEnd::Exit(0), StepEnd::NotStarted(reason)] => Err(format!(
            "a running sandbox cannot be cut off from it ({reason}), and package code must not run connected"
        )),
        [StepEnd::Exit(0), _] => Err(format!(
            "a sandbox that was cut off from it is not alone with itself ({said})"
        )),
        _ => Err(format!(
            "a sandbox that was started on it sees no link to it ({said})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_told_in_its_own_words() {
        let (good, bad) = (StepEnd::Exit(0), StepEnd::Exit(1));
        let late = StepEnd::NotStarted("the network was not cut within 30 s".to_owned());
        let reason = |ends: &[&StepEnd]| evaluate(ends, "127.0.0.11:53 answers").unwrap_err();
        assert!(evaluate(&[&good, &good], "").is_ok());
        assert!(reason(&[&good, &late]).contains("within 30 s"));
        let open = reason(&[&good, &bad]);
        assert!(open.contains("not alone") && open.contains("(127.0.0.11:53 answers)"));
        assert!(reason(&[&bad]).contains("no link"));
        assert!(evaluate(&[], "").is_err());
    }

    #[tokio::test]
    async fn the_last_line_is_the_reason_and_an_endless_log_is_not_stored() {
        let (log, pieces) = mpsc::channel(8);
        for piece in ["one\ntw", "o\n"] {
            log.send(Bytes::from(piece)).await.unwrap();
        }
        drop(log);
        assert_eq!(last_line(Some(pieces)).await, "two");
        let (log, pieces) = mpsc::channel(8);
        for _ in 0..3 {
            log.send(Bytes::from(vec![b'x'; MAX_SAID])).await.unwrap();
        }
        drop(log);
        assert_eq!(last_line(Some(pieces)).await.len(), MAX_SAID);
        assert_eq!(last_line(None).await, "");
    }
}
