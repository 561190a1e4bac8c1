//! From the command line to an exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use millrace_chassis::{Lifecycle, Metrics, init_logging};
use millrace_store::{Store, StoreConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Builder, Runtime};

use crate::application::Application;
use crate::config::args::{Cli, Command, Config};
use crate::config::error::SettingsError;
use crate::config::settings::Settings;
use crate::healthcheck;
use crate::http::openapi;

/// How long open requests may take to finish after the first signal to stop.
const GRACE: Duration = Duration::from_secs(20);
/// Threads for file operations at most; more would only cost memory.
const FILE_THREADS: usize = 32;

/// Runs the command and returns its exit code; an error goes to stderr.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(cli.config),
        Command::Healthcheck => healthcheck::run(cli.config.listen),
        Command::Openapi => print_openapi(),
        Command::Migrate => migrate(&cli.config),
    };
    done.unwrap_or_else(|error| {
        eprintln!("millrace-frontend: {error:#}");
        ExitCode::FAILURE
    })
}

fn serve(config: Config) -> anyhow::Result<ExitCode> {
    init_logging(&config.log)?;
    let settings = Settings::check(config)?;
    let metrics = Metrics::install()?;
    runtime()?.block_on(async {
        let mut lifecycle = Lifecycle::new(Some(GRACE))?;
        let shutdown = lifecycle.shutdown();
        let application = Application::build(settings, Some(metrics), shutdown).await?;
        application.spawn(&mut lifecycle);
        Ok(lifecycle.run().await)
    })
}

fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    init_logging(&config.log)?;
    let url: SecretString = config
        .database_url
        .clone()
        .filter(|url| !url.expose_secret().is_empty())
        .ok_or(SettingsError::Missing("MILLRACE_DATABASE_URL"))?;
    runtime()?.block_on(async {
        let store = Store::connect(&StoreConfig::new(url))?;
        store
            .migrate()
            .await
            .context("the schema was not changed")?;
        store.close().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn print_openapi() -> anyhow::Result<ExitCode> {
    println!("{}", openapi::document().to_pretty_json()?);
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.min(8))
        .max_blocking_threads(FILE_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
