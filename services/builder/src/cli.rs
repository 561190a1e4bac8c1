//! The program's commands: `run`, `healthcheck` and `self-test`.

use std::process::ExitCode;

use chrono::Utc;
use millrace_chassis::init_logging;
use millrace_domain::BuilderId;

use crate::app;
use crate::config::{Cli, Command, Config};
use crate::engine::prepare;
use crate::health_file::StatusFile;

/// Runs the command of the command line. The exit code says whether it succeeded; the log or stderr says why not.
pub fn run(cli: &Cli) -> ExitCode {
    execute(cli).unwrap_or_else(|error| {
        eprintln!("millrace-builder: {error:#}");
        ExitCode::FAILURE
    })
}

fn execute(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Some(Command::Healthcheck) = cli.command {
        return Ok(healthcheck(&cli.config));
    }
    init_logging(&cli.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let code = match cli.command {
        Some(Command::SelfTest) => runtime.block_on(self_test(&cli.config))?,
        Some(Command::Run | Command::Healthcheck) | None => {
            runtime.block_on(app::run(&cli.config))?
        }
    };
    // A disk call that hangs must not keep a stopped builder alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(code)
}

/// Prints whether the running builder is ready, and why not.
fn healthcheck(config: &Config) -> ExitCode {
    match StatusFile::new(&config.status_file).check(Utc::now()) {
        Ok(()) => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the self-test once and prints what it found.
async fn self_test(config: &Config) -> anyhow::Result<ExitCode> {
    let (_, tested) = prepare::test(config, BuilderId::generate()).await?;
    println!(
        "passed: profile {} accepted, memory limit enforced, swap no way around it, network can be cut{}",
        config.sandbox_profile,
        if tested.device_nodes {
            ""
        } else {
            "; device nodes cannot be opened in this engine's containers, so they are not made"
        }
    );
    Ok(ExitCode::SUCCESS)
}
