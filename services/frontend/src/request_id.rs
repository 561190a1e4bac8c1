//! The id of the request that is being handled: set by `http/request_log.rs`, read where an error becomes an answer, so
//! that a caller can quote the id under which the log has the cause.

tokio::task_local! {
    static REQUEST_ID: String;
}

/// Runs the handling of a request; within it [`current`] answers with this id.
pub async fn scope<F: Future>(id: String, handling: F) -> F::Output {
    REQUEST_ID.scope(id, handling).await
}

/// The id of the request being handled; none outside of requests, such as in a background loop.
pub fn current() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}
