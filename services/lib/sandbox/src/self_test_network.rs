//! Proves from inside a sandbox that it can be cut off: package code must never run connected because an engine does
//! not do what it answers.

use std::path::Path;

use chrono::{TimeDelta, Utc};
use millrace_domain::{AttemptId, BuilderId};
use millrace_supervisor::{Network, Plan, SUPERVISOR_PATH, Step, StepEnd};

use crate::engine::Engine;
use crate::error::SandboxError;
use crate::network::NetworkSpec;
use crate::profile::Profile;
use crate::runtime::Runtime;
use crate::self_test::ensure_image;
use crate::spec::{SandboxFiles, SandboxLimits, SandboxSpec};

/// Wall limit of the whole test, in seconds; it takes about one.
const WITHIN: u32 = 60;

/// Starts a sandbox on the network, has it disconnected, and lets it check its links itself.
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
    let ended = handle.wait().await;
    handle.remove().await?;
    let steps = ended?.report.map(|report| report.steps).unwrap_or_default();
    let ends: Vec<&StepEnd> = steps.iter().map(|step| &step.end).collect();
    evaluate(&ends).map_err(|reason| SandboxError::NetworkFailed {
        network: network.name.clone(),
        reason,
    })
}

/// A step that exits with 0 where the links are as expected: some `before` the cut, none but loopback `after` it.
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

fn evaluate(ends: &[&StepEnd]) -> Result<(), String> {
    match ends {
        [StepEnd::Exit(0), StepEnd::Exit(0)] => Ok(()),
        [StepEnd::Exit(0), StepEnd::NotStarted(reason)] => Err(format!(
            "the engine does not disconnect a running sandbox from it ({reason}), and package code must not run connected"
        )),
        [StepEnd::Exit(0), _] => Err(
            "a sandbox that was disconnected from it still sees other links than loopback"
                .to_owned(),
        ),
        _ => Err("a sandbox that was started on it sees no link to it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_told_in_its_own_words() {
        let (good, bad) = (StepEnd::Exit(0), StepEnd::Exit(1));
        let late = StepEnd::NotStarted("the network was not cut within 30 s".to_owned());
        assert!(evaluate(&[&good, &good]).is_ok());
        assert!(
            evaluate(&[&good, &late])
                .unwrap_err()
                .contains("within 30 s")
        );
        assert!(evaluate(&[&good, &bad]).unwrap_err().contains("still sees"));
        assert!(evaluate(&[&bad]).unwrap_err().contains("no link"));
        assert!(evaluate(&[]).is_err());
    }
}
