//! `/results/<owner>/<project>/<chroot>/<build>/<file>`: accepted results as plain folders, for people and their
//! tools, and uploaded sources beside them. Only what an accepted attempt lists is there.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use millrace_chassis::path_segment;
use millrace_domain::{AttemptState, BuildId, ChrootName, FileName, Name};
use millrace_results::{AttemptFile, Sha256};
use millrace_store::{AttemptView, BuildView, ListQuery, ProjectRow};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::http::api::model::page::Page;
use crate::http::downloads::serve_file::serve_file;
use crate::http::extract::{ApiQuery, Segments, header_text, segment};
use crate::state::AppState;

/// Builds looked through for one page of a chroot's folder.
const BUILDS_A_PAGE: u32 = 100;

/// Where a page of a folder begins.
#[derive(Debug, Deserialize)]
pub struct Query {
    before: Option<i64>,
}

/// One line of a folder.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    url: String,
}

/// The chroots of a project.
pub async fn project_folder(
    State(state): State<AppState>,
    Segments((owner, project)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let project = find_project(&state, &owner, &project).await?;
    let path = format!("/results/{}/{}", project.owner, project.name);
    let chroots = state.store.list_chroots().await?;
    let items = chroots
        .iter()
        .map(|chroot| folder(&state, &path, chroot.name.as_str()))
        .collect();
    Ok(listing(&path, Page { items, next: None }, &headers))
}

/// The builds of a project in a chroot, newest first.
pub async fn chroot_folder(
    State(state): State<AppState>,
    Segments((owner, project, chroot)): Segments<(String, String, String)>,
    ApiQuery(query): ApiQuery<Query>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let project = find_project(&state, &owner, &project).await?;
    let chroot: ChrootName = segment("chroot", &chroot)?;
    let builds = state
        .store
        .list_builds(&ListQuery {
            project: Some(project.id),
            before: query.before.map(BuildId),
            limit: BUILDS_A_PAGE,
            ..ListQuery::default()
        })
        .await?;
    let next = builds
        .last()
        .filter(|_| builds.len() == BUILDS_A_PAGE as usize)
        .map(|build| build.id.0);
    let path = format!("/results/{}/{}/{chroot}", project.owner, project.name);
    let items = builds
        .iter()
        .filter(|build| accepted(build, &chroot).is_some())
        .map(|build| folder(&state, &path, &build.id.to_string()))
        .collect();
    Ok(listing(&path, Page { items, next }, &headers))
}

/// The files of a build in a chroot.
pub async fn build_folder(
    State(state): State<AppState>,
    Segments((owner, project, chroot, build)): Segments<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let build = find_build(&state, &owner, &project, &build).await?;
    let chroot: ChrootName = segment("chroot", &chroot)?;
    let attempt = accepted(&build, &chroot).ok_or_else(|| no_result(&build, &chroot))?;
    let path = format!(
        "/results/{}/{}/{chroot}/{}",
        build.owner, build.project, build.id
    );
    let mut items = Vec::new();
    for package in &attempt.packages {
        // Packages of one build share names such as build.log.
        let prefix = if attempt.packages.len() > 1 {
            format!("{}/", package.position)
        } else {
            String::new()
        };
        for file in &package.files {
            let segment = path_segment(file.name.as_str());
            items.push(Entry {
                name: format!("{prefix}{}", file.name),
                size: Some(file.size),
                sha256: Some(file.sha256.clone()),
                url: state
                    .settings
                    .links
                    .to(&format!("{path}/{prefix}{segment}")),
            });
        }
    }
    Ok(listing(&path, Page { items, next: None }, &headers))
}

/// A file of a build of one package, or of the first package that has it.
pub async fn build_file(
    State(state): State<AppState>,
    Segments((owner, project, chroot, build, name)): Segments<(
        String,
        String,
        String,
        String,
        String,
    )>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let build = find_build(&state, &owner, &project, &build).await?;
    serve_result(&state, &build, &chroot, None, &name, &headers).await
}

/// A file of one package of a build.
pub async fn package_file(
    State(state): State<AppState>,
    Segments((owner, project, chroot, build, position, name)): Segments<(
        String,
        String,
        String,
        String,
        String,
        String,
    )>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let build = find_build(&state, &owner, &project, &build).await?;
    let position = segment("package", &position)?;
    serve_result(&state, &build, &chroot, Some(position), &name, &headers).await
}

/// An uploaded source package that some build names.
pub async fn source_file(
    State(state): State<AppState>,
    Segments((owner, project, sha256, name)): Segments<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    find_project(&state, &owner, &project).await?;
    let digest: Sha256 = segment("source", &sha256)?;
    let name: FileName = segment("source", &name)?;
    if !state.store.source_named(digest.as_str(), &name).await? {
        return Err(ApiError::unknown("source", sha256));
    }
    let stored = state.results.source(&digest).await?;
    serve_file(&stored, name.as_str(), &headers).await
}

async fn serve_result(
    state: &AppState,
    build: &BuildView,
    chroot: &str,
    position: Option<u32>,
    name: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let chroot: ChrootName = segment("chroot", chroot)?;
    let name: FileName = segment("file", name)?;
    let attempt = accepted(build, &chroot).ok_or_else(|| no_result(build, &chroot))?;
    let package = attempt
        .packages
        .iter()
        .filter(|package| position.is_none_or(|wanted| package.position == wanted))
        .find(|package| package.files.iter().any(|file| file.name == name))
        .ok_or_else(|| ApiError::unknown("file", &name))?;
    let file = AttemptFile {
        attempt: attempt.id,
        position: package.position,
        name,
    };
    let stored = state.results.attempt_file(&file).await?;
    serve_file(&stored, file.name.as_str(), headers).await
}

async fn find_project(state: &AppState, owner: &str, name: &str) -> Result<ProjectRow, ApiError> {
    let unknown = || ApiError::unknown("project", format!("{owner}/{name}"));
    let owner_name: Name = owner.parse().map_err(|_| unknown())?;
    let project_name: Name = name.parse().map_err(|_| unknown())?;
    let project = state.store.find_project(&owner_name, &project_name).await?;
    project.ok_or_else(unknown)
}

async fn find_build(
    state: &AppState,
    owner: &str,
    project: &str,
    id: &str,
) -> Result<BuildView, ApiError> {
    let build_id: BuildId = segment("build", id)?;
    state
        .store
        .build(build_id)
        .await?
        .filter(|build| build.owner.as_str() == owner && build.project.as_str() == project)
        .ok_or_else(|| ApiError::unknown("build", id))
}

/// The attempt whose files are the build's result in a chroot: the last one that was accepted.
fn accepted<'a>(build: &'a BuildView, chroot: &ChrootName) -> Option<&'a AttemptView> {
    let task = build.tasks.iter().find(|task| task.chroot == *chroot)?;
    task.attempts
        .iter()
        .rfind(|attempt| attempt.state == AttemptState::Finished)
}

fn no_result(build: &BuildView, chroot: &ChrootName) -> ApiError {
    ApiError::unknown("result", format!("of build {} in {chroot}", build.id))
}

fn folder(state: &AppState, path: &str, name: &str) -> Entry {
    Entry {
        name: format!("{name}/"),
        size: None,
        sha256: None,
        url: state.settings.links.to(&format!("{path}/{name}/")),
    }
}

fn listing(path: &str, page: Page<Entry>, headers: &HeaderMap) -> Response {
    let wants_json = header_text(headers, &header::ACCEPT)
        .is_some_and(|accept| accept.contains("application/json"));
    if wants_json {
        Json(page).into_response()
    } else {
        Html(to_html(path, &page)).into_response()
    }
}

/// Names hold no character that HTML would read: [`FileName`] and its like keep them out.
fn to_html(path: &str, page: &Page<Entry>) -> String {
    use std::fmt::Write as _;

    let mut html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{path}/</title><h1>{path}/</h1>\n<p><a href=\"../\">../</a></p>\n<ul>\n"
    );
    for entry in &page.items {
        let (name, url) = (&entry.name, &entry.url);
        let size = entry
            .size
            .map(|size| format!(" {size} bytes"))
            .unwrap_or_default();
        let _ = writeln!(html, "<li><a href=\"{url}\">{name}</a>{size}</li>");
    }
    html.push_str("</ul>\n");
    if let Some(next) = page.next {
        let _ = writeln!(html, "<p><a href=\"?before={next}\">older builds</a></p>");
    }
    html
}
