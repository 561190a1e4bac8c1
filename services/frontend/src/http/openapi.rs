//! The `OpenAPI` document of the native API, made from the handlers themselves.

use axum::Json;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::http::routes::api;

/// What the document says of the API as a whole: title, tags, and how a caller authenticates.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millrace",
        description = "Submit source packages, watch them build, read what came of it. Reads are open; every write needs the admin token. Refusals are RFC 9457 problem JSON that name the field and what would be accepted.",
    ),
    modifiers(&AdminToken),
    tags(
        (name = "builds", description = "Submit, watch, cancel, repeat"),
        (name = "logs", description = "What the sandbox said"),
        (name = "results", description = "What was made"),
        (name = "pollers", description = "Pollers of 2012 that are known by name"),
        (name = "service", description = "How the service is"),
    )
)]
struct ApiHead;

struct AdminToken;

impl Modify for AdminToken {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("admin", SecurityScheme::Http(scheme));
    }
}

/// The head with the paths and schemas of all routes.
pub fn document() -> Document {
    OpenApiRouter::with_openapi(ApiHead::openapi())
        .merge(api())
        .into_openapi()
}

/// Serves the document at `/api/v1/openapi.json`.
pub async fn openapi() -> Json<Document> {
    Json(document())
}
