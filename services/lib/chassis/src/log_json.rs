//! The JSON form of a log line: fields of the event and of all spans around it stand side by side at the top level, so
//! that `attempt.id` is found in one place, whether a span carries it or the event itself.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

/// Formats an event as one line of JSON. Needs [`JsonFields`](tracing_subscriber::fmt::format::JsonFields) as the format
/// of span fields.
pub(crate) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        // Outer spans first: an inner span, and the event itself, override a field of the same name.
        let spans = context.event_scope().map(Scope::from_root);
        for span in spans.into_iter().flatten() {
            let extensions = span.extensions();
            let own = extensions.get::<FormattedFields<N>>();
            if let Some(Ok(own)) = own.map(|own| serde_json::from_str::<Map<_, _>>(&own.fields)) {
                fields.0.extend(own);
            }
        }
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        write!(
            writer,
            r#"{{"timestamp":{},"level":"{}","message":{},"target":{}"#,
            Value::from(time),
            metadata.level(),
            fields.0.remove("message").unwrap_or_default(),
            Value::from(metadata.target()),
        )?;
        for (name, value) in fields.0 {
            write!(writer, ",{}:{value}", Value::from(name))?;
        }
        writeln!(writer, "}}")
    }
}

/// The fields of an event by name, as JSON values.
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        // A raw identifier such as `type` is written `r#type` in the source.
        let name = field.name().trim_start_matches("r#");
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}
