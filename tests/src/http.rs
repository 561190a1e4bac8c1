//! The suite's own HTTP client.

use reqwest::{Client, Response};

/// A client; reqwest wants to be told which TLS provider to use, once a process.
pub fn http_client() -> Client {
    // Fails only when a provider is set already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::new()
}

/// Gets a URL; panics when the server cannot be reached.
pub async fn http_get(url: &str) -> Response {
    http_client()
        .get(url)
        .send()
        .await
        .unwrap_or_else(|e| panic!("{url}: {e}"))
}
