//! Shared by every Millrace process: logging, metrics, health, lifecycle and its HTTP clients.
#![doc = include_str!("../README.md")]

mod address;
mod api_client;
mod backoff;
mod crash;
mod fetch;
mod fetch_error;
mod health;
mod http;
mod lifecycle;
mod log_json;
mod logging;
mod metrics;
mod problem;
mod random;
mod shutdown;

pub use address::{AllowList, AllowListError, Guard};
pub use api_client::{ApiClient, ApiError, Timeouts, path_segment};
pub use backoff::BackoffExt;
pub use crash::{CrashHook, crash_point, set_crash_hook};
pub use fetch::{FetchArgs, FetchLimits, Fetched, Fetcher};
pub use fetch_error::FetchError;
pub use health::{Check, Health};
pub use lifecycle::Lifecycle;
pub use logging::{LogArgs, LogError, LogFormat, init_logging};
pub use metrics::{METRICS_CONTENT_TYPE, Metrics, MetricsError};
pub use problem::Problem;
pub use random::{RandomError, random_bytes};
pub use shutdown::Shutdown;

pub use millrace_domain::Backoff;
pub use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
pub use tokio_util::sync::CancellationToken;
