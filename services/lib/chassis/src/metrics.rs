//! The Prometheus recorder behind `/metrics`. Counting itself is done with the `metrics` crate's macros.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::shutdown::Shutdown;

/// The content type of [`Metrics::render`]'s text.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper ends of histogram buckets, in seconds: from a claim's milliseconds to a build's hours.
const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 1800.0,
    7200.0,
];

/// How often recorded samples are folded into buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot install the metrics recorder: {0}")]
pub struct MetricsError(#[from] BuildError);

/// Handle to the process's one metrics recorder. Cloning is cheap.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Makes this process count. Works once per process.
    pub fn install() -> Result<Self, MetricsError> {
        let handle = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)?
            .install_recorder()?;
        Ok(Self(handle))
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples into buckets until the stop; without it, histograms that are not scraped would grow.
    pub async fn upkeep(self, shutdown: Shutdown) {
        while shutdown.sleep(UPKEEP_EVERY).await {
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn counted_things_are_rendered_and_upkeep_ends_with_the_stop() {
        let metrics = Metrics::install().unwrap();
        ::metrics::counter!("test_things_total", "kind" => "good").increment(3);
        ::metrics::histogram!("test_seconds").record(0.004);
        let text = metrics.render();
        assert!(
            text.contains("test_things_total{kind=\"good\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("test_seconds_bucket{le=\"0.005\"} 1"),
            "{text}"
        );
        assert!(Metrics::install().is_err());

        let shutdown = Shutdown::manual();
        shutdown.stop();
        metrics.upkeep(shutdown).await;
    }
}
