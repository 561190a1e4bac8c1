//! Waiting for a condition with a deadline, in place of sleeping and hoping.

use std::time::Duration;

use tokio::time::Instant;

/// Looks every 100 ms until the condition yields a value; panics with `what` after a minute.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(Duration::from_mins(1), what, condition).await
}

/// Looks every 100 ms until the condition yields a value; panics with `what` after the deadline.
pub async fn until_within<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    loop {
        interval.tick().await;
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            started.elapsed() < deadline,
            "waited {deadline:?} in vain until {what}"
        );
    }
}
