//! Logging to stderr, set up once per process, with the same two variables in every program.

use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a process logs.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What is logged: a level, or levels by module such as `info,millrace_bus=debug`
    #[arg(
        long = "log-filter",
        env = "MILLRACE_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log_filter: String,
    /// How a log line looks
    #[arg(
        long = "log-format",
        env = "MILLRACE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text, with `name=value` fields, for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is no filter.
    #[error(
        "MILLRACE_LOG is '{filter}', expected a level (error, warn, info, debug, trace) or levels by module"
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Again(#[from] TryInitError),
}

/// Sends log lines of this process to stderr, and panics into the log.
pub fn init_logging(args: &LogArgs) -> Result<(), LogError> {
    // An empty variable is what compose passes for an unset one.
    let text = Some(args.log_filter.trim())
        .filter(|text| !text.is_empty())
        .unwrap_or("info");
    let filter = EnvFilter::builder()
        .parse(text)
        .map_err(|source| LogError::Filter {
            filter: args.log_filter.clone(),
            source,
        })?;
    let filter = quiet_lapin(filter, text);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match args.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer.with_ansi(colours)).try_init()?;
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(place = %Place(panic.location()), "panic: {}", panic_text(panic.payload()));
    }));
    Ok(())
}

/// lapin logs a returned message with its body at WARN, and the body of a report holds a lease token: without a
/// word about lapin in the filter it is not heard at all. Our bus says in its own words what went wrong.
fn quiet_lapin(filter: EnvFilter, text: &str) -> EnvFilter {
    if text.contains("lapin") {
        return filter;
    }
    match "lapin=off".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

struct Place<'a>(Option<&'a std::panic::Location<'a>>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => place.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_named_and_a_second_setup_refused() {
        let args = |filter: &str| LogArgs {
            log_filter: filter.to_owned(),
            log_format: LogFormat::Json,
        };
        let error = init_logging(&args("loud=,,=")).unwrap_err();
        assert!(error.to_string().contains("'loud=,,='"), "{error}");
        init_logging(&args("")).unwrap();
        assert!(matches!(
            init_logging(&args("info")),
            Err(LogError::Again(_))
        ));
    }
}
