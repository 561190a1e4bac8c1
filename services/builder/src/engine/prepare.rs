//! Where sandboxes come from, tested before the first job: a builder that cannot keep the promises about memory
//! and privileges refuses to start, with one sentence that says why.

use std::time::Duration;

use millrace_domain::BuilderId;
use millrace_sandbox::{
    Engine, EngineInfo, NetworkSpec, NoopEngine, Runtime, SandboxError, SelfTest, self_test,
    test_cut,
};

use crate::config::Config;
use crate::config::sandbox::{Offer, SandboxKind, SandboxSettings};

/// Sandboxes that the stand-in runs at once.
const NOOP_SANDBOXES: u32 = 64;
/// The part of the engine's memory that builders use by default, in percent.
const BUDGET_PERCENT: u64 = 80;

/// An engine that passed the test.
pub struct ReadyEngine {
    /// Where sandboxes come from.
    pub runtime: Runtime,
    /// How they are made.
    pub settings: SandboxSettings,
    /// What the engine is.
    pub info: EngineInfo,
}

/// Connects, tests and prepares the engine.
pub async fn prepare(config: &Config, builder: BuilderId) -> Result<ReadyEngine, SandboxError> {
    let (runtime, device_nodes) = match config.sandbox {
        SandboxKind::Mock => {
            let (engine, tested) = test(config, builder).await?;
            (Runtime::Engine(engine), tested.device_nodes)
        }
        SandboxKind::Noop => {
            tracing::warn!(
                "sandboxes are the no-op stand-in: nothing is fetched and nothing is built"
            );
            let takes = Duration::from_millis(config.noop_millis.into());
            let engine = NoopEngine::new(&builder.to_string()).taking(takes);
            (Runtime::Noop(engine), true)
        }
    };
    let info = runtime.info().await?;
    Ok(ReadyEngine {
        runtime,
        settings: SandboxSettings {
            profile: config.sandbox_profile,
            device_nodes,
            network: config.sandbox_network.clone(),
            supervisor: config.supervisor.clone(),
            max_source_bytes: config.max_source_bytes,
            caps: config.caps.caps(),
        },
        info,
    })
}

/// The self-test: engine reachable, profile accepted, memory limit enforced, swap no way around it, and sandboxes can
/// be cut off from their network.
pub async fn test(config: &Config, builder: BuilderId) -> Result<(Engine, SelfTest), SandboxError> {
    let engine = Engine::connect(&config.engine_url).await?;
    let (profile, supervisor) = (config.sandbox_profile, &config.supervisor);
    let tested = self_test(&engine, profile, supervisor).await?;
    let network = NetworkSpec {
        mtu: config.network_mtu,
        ..NetworkSpec::new(&config.sandbox_network)
    };
    engine.ensure_network(&network).await?;
    test_cut(&engine, builder, profile, supervisor, &network).await?;
    tracing::info!(
        %profile,
        device_nodes = tested.device_nodes,
        duration_ms = tested.millis,
        "the engine passed the self-test"
    );
    Ok((engine, tested))
}

/// What this builder offers, from settings and engine.
pub fn offer(config: &Config, info: &EngineInfo) -> Offer {
    let budget = (info.memory_bytes >> 20) * BUDGET_PERCENT / 100;
    let budget = u32::try_from(budget).unwrap_or(u32::MAX);
    let memory_mib = config.memory_mib.unwrap_or(budget);
    let default_sandboxes = match config.sandbox {
        SandboxKind::Mock => info.cpus.max(1),
        SandboxKind::Noop => NOOP_SANDBOXES,
    };
    Offer {
        memory_mib,
        // An operator who offers more than the default means it.
        engine_budget_mib: budget.max(memory_mib),
        sandboxes: config.sandboxes.unwrap_or(default_sandboxes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn offered(arguments: &[&str]) -> Offer {
        let mut line = vec!["millrace-builder"];
        line.extend(arguments);
        let cli = crate::config::Cli::try_parse_from(line).unwrap();
        let info = EngineInfo {
            id: "x".to_owned(),
            name: "x".to_owned(),
            version: "1".to_owned(),
            memory_bytes: 10 << 30,
            cpus: 4,
            cgroup_version: 2,
            has_apparmor: false,
        };
        offer(&cli.config, &info)
    }

    #[test]
    fn four_fifths_of_the_engine_and_its_processors_are_offered() {
        let offer = offered(&["--sandbox", "mock"]);
        assert_eq!(
            offer,
            Offer {
                memory_mib: 8192,
                engine_budget_mib: 8192,
                sandboxes: 4
            }
        );
    }

    #[test]
    fn an_operator_may_offer_less_or_more() {
        let less = offered(&[
            "--sandbox",
            "mock",
            "--memory-mib",
            "1024",
            "--sandboxes",
            "2",
        ]);
        assert_eq!(
            (less.memory_mib, less.engine_budget_mib, less.sandboxes),
            (1024, 8192, 2)
        );
        let more = offered(&["--sandbox", "mock", "--memory-mib", "9000"]);
        assert_eq!(more.engine_budget_mib, 9000);
    }
}
