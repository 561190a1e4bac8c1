//! The HTTP interface. `routes` has the table of addresses; `api`, `builder_api`, `downloads` and `legacy` have the
//! handlers, by caller. Handlers check, call a use case or the store, and give the answer its shape; none of them
//! publishes.

pub(crate) mod api;
pub(crate) mod auth;
pub(crate) mod builder_api;
pub(crate) mod client_address;
pub(crate) mod downloads;
pub(crate) mod error_answer;
pub(crate) mod extract;
pub(crate) mod legacy;
pub(crate) mod openapi;
pub(crate) mod readiness;
pub(crate) mod request_log;
pub(crate) mod routes;
pub(crate) mod server;

use axum::Router;
use axum::routing::get;

use crate::state::AppState;

/// All routes, and the document that describes those of the native API.
pub(crate) fn router(state: AppState) -> Router {
    let document = Router::new().route("/api/v1/openapi.json", get(openapi::openapi));
    routes::router(state, document)
}
