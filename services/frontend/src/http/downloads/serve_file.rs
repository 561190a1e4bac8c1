//! Answers with a stored file: ranges, entity tags, and headers that keep a browser from running what a package wrote.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millrace_results::{StoredFile, parse_range};

use crate::error::ApiError;
use crate::http::extract::header_text;

/// Answers with a file, or with the range of it that the request asks for. The media type follows from the end of
/// `name`.
pub async fn serve_file(
    file: &StoredFile,
    name: &str,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let size = file.size();
    let tag = file.etag().map(quoted);
    if let Some(tag) = &tag
        && header_text(request, &header::IF_NONE_MATCH).is_some_and(|known| known == tag)
    {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    // A client that resumes a download of another version needs the whole file.
    let is_same_version = match header_text(request, &header::IF_RANGE) {
        None => true,
        known => known == tag.as_deref(),
    };
    let wanted = header_text(request, &header::RANGE).filter(|_| is_same_version);
    let range = parse_range(wanted, size).map_err(|_| ApiError::Range { size })?;
    let (status, length, part) = match &range {
        Some(range) => (
            StatusCode::PARTIAL_CONTENT,
            range.end - range.start,
            Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)),
        ),
        None => (StatusCode::OK, size, None),
    };
    let stream = file.stream(range).await?;
    let mut response = (status, Body::from_stream(stream)).into_response();
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, media_type(name));
    set(headers, header::CONTENT_LENGTH, &length.to_string());
    set(headers, header::ACCEPT_RANGES, "bytes");
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(
        headers,
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; sandbox",
    );
    set(
        headers,
        header::LAST_MODIFIED,
        &file
            .modified()
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string(),
    );
    if let Some(tag) = tag {
        set(headers, header::ETAG, &tag);
    }
    if let Some(part) = part {
        set(headers, header::CONTENT_RANGE, &part);
    }
    Ok(response)
}

fn quoted(tag: &str) -> String {
    if tag.ends_with('"') {
        tag.to_owned()
    } else {
        format!("\"{tag}\"")
    }
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("log" | "txt" | "spec") => "text/plain; charset=utf-8",
        Some("rpm") => "application/x-rpm",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
