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

/// The whole test, in seconds; it takes about one.
const WITHIN: u32 = 60;

/// Starts a sandbox on the network, has it disconnected, and lets it look for itself.
pub async fn test_cut(
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
            vec![look("before", None), look("after", Some(Network::Cut))],
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
    judge(&ends).map_err(|reason| SandboxError::NetworkFailed {
        network: network.name.clone(),
        reason,
    })
}

/// A step that exits with the number of ways out that it sees.
fn look(name: &str, network: Option<Network>) -> Step {
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

fn judge(ends: &[&StepEnd]) -> Result<(), String> {
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
        assert!(judge(&[&good, &good]).is_ok());
        assert!(judge(&[&good, &late]).unwrap_err().contains("within 30 s"));
        assert!(judge(&[&good, &bad]).unwrap_err().contains("still sees"));
        assert!(judge(&[&bad]).unwrap_err().contains("no link"));
        assert!(judge(&[]).is_err());
    }
}
