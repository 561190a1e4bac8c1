//! The HTTP interface, one endpoint or a pair of opposites in a file. Handlers check, call a use case or the store,
//! and give the answer its shape; none of them publishes.

pub(crate) mod api;
pub(crate) mod auth;
pub(crate) mod builder_api;
pub(crate) mod client_address;
pub(crate) mod downloads;
pub(crate) mod extract;
pub(crate) mod legacy;
pub(crate) mod openapi;
pub(crate) mod request_log;
pub(crate) mod routes;
pub(crate) mod server;
