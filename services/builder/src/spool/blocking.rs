//! Disk work that may block is handed to a thread of its own: a slow disk must not stall the tasks of the runtime.

/// Runs work that blocks on the disk in a thread for such work.
pub async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
