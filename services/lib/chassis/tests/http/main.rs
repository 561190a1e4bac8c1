//! The HTTP clients against a real server on this machine.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod api_client;
mod fetch;
mod server;
