//! Runs disk work that may block in a thread of its own: a slow disk must not stall the tasks of the runtime.

/// Runs work that blocks on the disk in a thread of the runtime's blocking pool.
pub async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
