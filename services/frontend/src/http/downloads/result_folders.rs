//! `/results/<owner>/<project>/<chroot>/<build>/<file>`: accepted results as plain folders, for browsers and download
//! tools, and uploaded sources beside them. Only files that an accepted attempt lists are shown.

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

/// Builds read for one page of a chroot's folder; those without a result in the chroot are left out.
const BUILDS_A_PAGE: u32 = 100;

/// Query of a folder that has pages.
#[derive(Debug, Deserialize)]
pub struct Query {
    /// Only builds with lower numbers.
    before: Option<i64>,
}

/// A file or folder within a folder; the name of a folder ends in a slash.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    url: String,
}

/// Path of a project's folder, as texts.
#[derive(Debug, Deserialize)]
pub struct ProjectPath {
    owner: String,
    project: String,
}

/// Path of a chroot's folder, as texts.
#[derive(Debug, Deserialize)]
pub struct ChrootPath {
    owner: String,
    project: String,
    chroot: String,
}

/// Path of a build's folder, as texts.
#[derive(Debug, Deserialize)]
pub struct BuildPath {
    owner: String,
    project: String,
    chroot: String,
    build: String,
}

/// Path of a file of a build, as texts.
#[derive(Debug, Deserialize)]
pub struct FilePath {
    owner: String,
    project: String,
    chroot: String,
    build: String,
    /// Position of the package; without it the first package that has the file is meant.
    position: Option<String>,
    file: String,
}

/// Path of an uploaded source package, as texts.
#[derive(Debug, Deserialize)]
pub struct SourcePath {
    owner: String,
    project: String,
    sha256: String,
    name: String,
}

/// Lists the chroots of a project.
pub async fn project_folder(
    State(state): State<AppState>,
    Segments(path): Segments<ProjectPath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let project = find_project(&state, &path.owner, &path.project).await?;
    let path = format!("/results/{}/{}", project.owner, project.name);
    let chroots = state.store.list_chroots().await?;
    let items = chroots
        .iter()
        .map(|chroot| folder(&state, &path, chroot.name.as_str()))
        .collect();
    Ok(listing(&path, Page { items, next: None }, &headers))
}

/// Lists the builds of a project that have a result in a chroot, newest first.
pub async fn chroot_folder(
    State(state): State<AppState>,
    Segments(path): Segments<ChrootPath>,
    ApiQuery(query): ApiQuery<Query>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let project = find_project(&state, &path.owner, &path.project).await?;
    let chroot: ChrootName = segment("chroot", &path.chroot)?;
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

/// Lists the files of a build in a chroot.
pub async fn build_folder(
    State(state): State<AppState>,
    Segments(path): Segments<BuildPath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let build = find_build(&state, &path.owner, &path.project, &path.build).await?;
    let chroot: ChrootName = segment("chroot", &path.chroot)?;
    let attempt = accepted(&build, &chroot).ok_or_else(|| no_result(&build, &chroot))?;
    let path = format!(
        "/results/{}/{}/{chroot}/{}",
        build.owner, build.project, build.id
    );
    let mut items = Vec::new();
    for package in &attempt.packages {
        // Packages of one build share file names such as build.log.
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

/// Serves a file of a build in a chroot: of the package at a position, or of the first package that has it.
pub async fn build_file(
    State(state): State<AppState>,
    Segments(path): Segments<FilePath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let build = find_build(&state, &path.owner, &path.project, &path.build).await?;
    let position: Option<u32> = match &path.position {
        Some(position) => Some(segment("package", position)?),
        None => None,
    };
    let chroot: ChrootName = segment("chroot", &path.chroot)?;
    let name: FileName = segment("file", &path.file)?;
    let attempt = accepted(&build, &chroot).ok_or_else(|| no_result(&build, &chroot))?;
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
    serve_file(&stored, file.name.as_str(), &headers).await
}

/// Serves an uploaded source package that a build names.
pub async fn source_file(
    State(state): State<AppState>,
    Segments(path): Segments<SourcePath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    find_project(&state, &path.owner, &path.project).await?;
    let digest: Sha256 = segment("source", &path.sha256)?;
    let name: FileName = segment("source", &path.name)?;
    if !state.store.source_named(digest.as_str(), &name).await? {
        return Err(ApiError::unknown("source", path.sha256));
    }
    let stored = state.results.source(&digest).await?;
    serve_file(&stored, name.as_str(), &headers).await
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

/// The attempt whose files are the build's result in a chroot: the last one whose report was accepted.
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

/// The folder as JSON where the request asks for that, otherwise as HTML.
fn listing(path: &str, page: Page<Entry>, headers: &HeaderMap) -> Response {
    let wants_json = header_text(headers, &header::ACCEPT)
        .is_some_and(|accept| accept.contains("application/json"));
    if wants_json {
        Json(page).into_response()
    } else {
        Html(to_html(path, &page)).into_response()
    }
}

/// Nothing is escaped: [`FileName`] and the other names admit no character that HTML interprets.
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
