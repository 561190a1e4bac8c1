//! The commands of the program.

use std::process::ExitCode;

use chrono::Utc;
use millrace_chassis::init_logging;
use millrace_domain::BuilderId;

use crate::app;
use crate::config::{Cli, Command, Config};
use crate::engine::prepare;
use crate::health_file::StatusFile;

/// Carries out the command line; the exit code says whether it worked, the log and stderr say why not.
pub fn execute(cli: &Cli) -> anyhow::Result<ExitCode> {
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
    // Disk calls that hang must not keep a stopped builder alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(code)
}

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
