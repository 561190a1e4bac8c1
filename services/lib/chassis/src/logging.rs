//! Logging to stderr, set up once per process, with the same two variables in every program.

use std::fmt;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, JsonFields};
use tracing_subscriber::fmt::{Layer, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::log_json::JsonLine;

/// Command-line options of the log.
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

/// Form of a log line.
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
    /// The filter cannot be parsed.
    #[error(
        "MILLRACE_LOG is '{filter}', expected a level (error, warn, info, debug, trace) or levels by module"
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// The filter parser's error.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was already set up in this process.
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
    let registry = tracing_subscriber::registry().with(filter);
    match args.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry
                .with(text_lines(std::io::stderr).with_ansi(colours))
                .try_init()?;
        }
        LogFormat::Json => registry.with(json_lines(std::io::stderr)).try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(place = %Place(panic.location()), "panic: {}", panic_text(panic.payload()));
    }));
    Ok(())
}

/// Lines for people: the spans around an event stand in front of it, each with its fields, as `attempt{attempt.id=…}:`.
fn text_lines<S, W>(writer: W) -> Layer<S, DefaultFields, Format, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    tracing_subscriber::fmt::layer().with_writer(writer)
}

/// Lines for machines: see [`JsonLine`].
fn json_lines<S, W>(writer: W) -> Layer<S, JsonFields, JsonLine, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine)
}

/// lapin logs a returned message with its body at WARN, and the body of a report holds a lease token: unless the
/// filter names lapin, its lines are left out. The bus logs the same faults itself.
fn quiet_lapin(filter: EnvFilter, text: &str) -> EnvFilter {
    if text.contains("lapin") {
        return filter;
    }
    match "lapin=off".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// The message of a panic, where it has one.
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

    /// What is logged lands here.
    #[derive(Clone, Default)]
    struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn lines(&self) -> Vec<serde_json::Value> {
            let text = self.text();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn log_in_spans() {
        let build = tracing::info_span!(
            "build",
            build.id = 7,
            stage = "fetch",
            late = tracing::field::Empty
        );
        let _build = build.enter();
        build.record("late", 1.5);
        let _attempt =
            tracing::info_span!("attempt", attempt.id = %"a-1", builder.id = ?Some(2)).entered();
        tracing::warn!(
            stage = "build",
            bytes = 12_u64,
            lost = true,
            "a \"quoted\" line\nand another"
        );
    }

    #[test]
    fn json_lines_hold_the_fields_of_spans_beside_those_of_the_event() {
        let sink = Sink::default();
        let writer = sink.clone();
        let registry = tracing_subscriber::registry().with(json_lines(move || writer.clone()));
        tracing::subscriber::with_default(registry, || {
            log_in_spans();
            tracing::info!("outside of any span");
        });
        let lines = sink.lines();
        let line = &lines[0];
        assert_eq!(line["message"], "a \"quoted\" line\nand another");
        assert_eq!(
            (&line["level"], &line["bytes"]),
            (&"WARN".into(), &12.into())
        );
        assert_eq!(
            (&line["attempt.id"], &line["builder.id"]),
            (&"a-1".into(), &"Some(2)".into())
        );
        assert_eq!((&line["build.id"], &line["late"]), (&7.into(), &1.5.into()));
        assert_eq!(
            line["stage"], "build",
            "the event's own field overrides the span's"
        );
        assert_eq!(line["lost"], true);
        assert!(
            line["target"]
                .as_str()
                .unwrap()
                .starts_with("millrace_chassis")
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines[1]["message"], "outside of any span");
        assert_eq!(lines[1].as_object().unwrap().len(), 4);
    }

    #[test]
    fn text_lines_hold_the_fields_of_spans_in_the_form_of_the_events() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = text_lines(move || writer.clone()).with_ansi(false);
        let registry = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(registry, log_in_spans);
        let text = sink.text();
        for field in [
            "build.id=7",
            "late=1.5",
            "attempt.id=a-1",
            "builder.id=Some(2)",
            "bytes=12",
        ] {
            assert!(text.contains(field), "{field} in {text}");
        }
        assert!(text.contains("attempt{attempt.id=a-1"), "{text}");
    }
}
