//! The table of routes, and the layers around them: deadline, readiness, request log.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::http::api::attempt_files;
use crate::http::api::build_cancel;
use crate::http::api::build_import;
use crate::http::api::build_resubmit;
use crate::http::api::build_submit;
use crate::http::api::builder_drain;
use crate::http::api::builders;
use crate::http::api::builds;
use crate::http::api::chroots;
use crate::http::api::health;
use crate::http::api::logs;
use crate::http::api::parked;
use crate::http::api::pollers;
use crate::http::api::projects;
use crate::http::api::source_upload;
use crate::http::api::status;
use crate::http::api::tasks;
use crate::http::builder_api;
use crate::http::downloads::result_folders;
use crate::http::legacy::update_builds;
use crate::http::legacy::waiting_builds;
use crate::http::readiness::when_ready;
use crate::http::request_log::observe;
use crate::state::AppState;

/// How long a handler may take, other than those that receive large bodies.
const DEADLINE: Duration = Duration::from_mins(1);

/// The whole HTTP interface; `document` serves what describes it, which is made from [`api`].
pub fn router(state: AppState, document: Router<AppState>) -> Router {
    let quick = Router::from(quick_api())
        .merge(builder_api::router())
        .merge(result_router())
        .layer(from_fn(deadline));
    let gated = quick
        .merge(Router::from(upload_api()))
        .merge(builder_api::uploads())
        .layer(from_fn_with_state(state.clone(), when_ready));
    gated
        .merge(Router::from(open_api()))
        .merge(open_router())
        .merge(document)
        .fallback(|| async { ApiError::NoSuchPath })
        .method_not_allowed_fallback(|| async { ApiError::WrongMethod })
        // Each body has its own cap where it is read.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(observe))
        .with_state(state)
}

/// The native API: its routes, and what the handlers say of themselves.
pub fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(quick_api())
        .merge(upload_api())
        .merge(open_api())
}

fn quick_api() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(builds::list_builds, build_submit::submit_build))
        .routes(routes!(builds::show_build))
        .routes(routes!(build_cancel::cancel_build))
        .routes(routes!(build_resubmit::resubmit_build))
        .routes(routes!(tasks::show_task))
        .routes(routes!(tasks::show_attempt))
        .routes(routes!(logs::attempt_log))
        .routes(routes!(logs::task_log))
        .routes(routes!(logs::build_log))
        .routes(routes!(attempt_files::list_files))
        .routes(routes!(attempt_files::read_file))
        .routes(routes!(
            chroots::list::list_chroots,
            chroots::add::add_chroot
        ))
        .routes(routes!(chroots::refresh::refresh_chroot))
        .routes(routes!(chroots::enable::disable_chroot))
        .routes(routes!(chroots::enable::enable_chroot))
        .routes(routes!(builders::list_builders))
        .routes(routes!(builder_drain::drain_builder))
        .routes(routes!(builder_drain::undrain_builder))
        .routes(routes!(parked::list_parked))
        .routes(routes!(
            pollers::list::list_pollers,
            pollers::add::add_poller
        ))
        .routes(routes!(
            pollers::list::show_poller,
            pollers::remove::remove_poller
        ))
        .routes(routes!(pollers::rotate::rotate_poller))
        .routes(routes!(pollers::lens::poller_lens))
        .routes(routes!(build_import::import_builds))
        .routes(routes!(projects::show_project, projects::change_project))
}

/// Uploads: without the deadline, since they take as long as their bodies.
fn upload_api() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(source_upload::upload_source))
}

/// Routes of the native API that answer while the frontend is starting.
fn open_api() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(status::status))
}

fn result_router() -> Router<AppState> {
    use result_folders::{build_file, build_folder, chroot_folder, project_folder, source_file};
    Router::new()
        .route("/results/{owner}/{project}/", get(project_folder))
        .route("/results/{owner}/{project}/{chroot}/", get(chroot_folder))
        .route(
            "/results/{owner}/{project}/{chroot}/{build}/",
            get(build_folder),
        )
        .route(
            "/results/{owner}/{project}/{chroot}/{build}/{file}",
            get(build_file),
        )
        .route(
            "/results/{owner}/{project}/{chroot}/{build}/{position}/{file}",
            get(build_file),
        )
        .route(
            "/results/{owner}/{project}/sources/{sha256}/{name}",
            get(source_file),
        )
}

/// As [`open_api`], outside of the native API: legacy pollers, probes and metrics.
fn open_router() -> Router<AppState> {
    Router::new()
        .merge(legacy_router())
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
}

/// What legacy pollers call: with both prefixes, with and without the final slash, since they follow no redirects.
fn legacy_router() -> Router<AppState> {
    let mut router = Router::new();
    for prefix in ["", "/backend"] {
        for slash in ["", "/"] {
            let list = format!("{prefix}/waiting_builds{slash}");
            let update = format!("{prefix}/update_builds{slash}");
            let own = |path: &str| format!("/legacy/{{token}}{path}");
            router = router
                .route(&own(&list), get(waiting_builds::poller_builds))
                .route(
                    &own(&update),
                    post(update_builds::poller_update).put(update_builds::poller_update),
                )
                .route(&list, get(waiting_builds::waiting_builds))
                .route(
                    &update,
                    post(update_builds::update_builds).put(update_builds::update_builds),
                );
        }
    }
    router
}

async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable {
            reason: format!("no answer within {} s", DEADLINE.as_secs()),
        }
        .into_response(),
    }
}
