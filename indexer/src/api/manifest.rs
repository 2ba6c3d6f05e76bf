//! The manifest and the content-addressed files that it names.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::route::Form;
use super::{Api, ApiError};

pub(super) async fn manifest(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let manifest = api.catalog.manifest(&api.fleet.view());
    let etag = format!("\"{}\"", manifest.revision);
    let mut response = if is_known(&headers, &manifest.revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Form::Json.respond(StatusCode::OK, &manifest)
    };
    set(&mut response, header::ETAG, &etag);
    response
}

pub(super) async fn table(
    State(api): State<Arc<Api>>,
    sha256: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(sha256) = sha256?;
    let bytes = api.catalog.resource(&sha256).ok_or_else(|| {
        ApiError::not_found(format!("no file {sha256:?}; the manifest names those there are"))
    })?;
    let length = bytes.len();
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let mut response = match asked.map(|asked| span(asked, length)) {
        _ if is_known(&headers, &sha256) => StatusCode::NOT_MODIFIED.into_response(),
        None | Some(Span::Whole) => bytes.into_response(),
        Some(Span::Part(from, to)) => {
            let part = bytes.slice(from..to);
            let mut response = (StatusCode::PARTIAL_CONTENT, part).into_response();
            let content = format!("bytes {from}-{}/{length}", to - 1);
            set(&mut response, header::CONTENT_RANGE, &content);
            response
        }
        Some(Span::Beyond) => {
            let mut response = ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                warmpath_protocol::code::BAD_REQUEST,
                format!("the file has {length} bytes"),
            )
            .into_response();
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return Ok(response);
        }
    };
    set(&mut response, header::ETAG, &format!("\"{sha256}\""));
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    Ok(response)
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

/// Whether the client has that version already.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| {
        known
            .split(',')
            .map(str::trim)
            .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).trim_matches('"') == tag)
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Span {
    /// No range, several, or none that can be read: the whole, as RFC 9110 allows.
    Whole,
    /// From, to (exclusive).
    Part(usize, usize),
    /// Begins behind the end.
    Beyond,
}

fn span(asked: &str, length: usize) -> Span {
    let Some((from, to)) = asked.strip_prefix("bytes=").and_then(|span| span.split_once('-'))
    else {
        return Span::Whole;
    };
    let (from, to) = (from.trim(), to.trim());
    if from.is_empty() {
        return match to.parse::<usize>() {
            Ok(0) => Span::Beyond,
            Ok(last) => Span::Part(length.saturating_sub(last), length),
            Err(_) => Span::Whole,
        };
    }
    let last = if to.is_empty() { Ok(usize::MAX - 1) } else { to.parse::<usize>() };
    match (from.parse::<usize>(), last) {
        (Ok(from), Ok(last)) if last >= from => {
            if from >= length {
                Span::Beyond
            } else {
                Span::Part(from, length.min(last.saturating_add(1)))
            }
        }
        _ => Span::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_rfc_9110() {
        assert_eq!(span("bytes=0-9", 100), Span::Part(0, 10));
        assert_eq!(span("bytes=90-", 100), Span::Part(90, 100));
        assert_eq!(span("bytes=-10", 100), Span::Part(90, 100));
        assert_eq!(span("bytes=-1000", 100), Span::Part(0, 100));
        assert_eq!(span("bytes=90-1000", 100), Span::Part(90, 100));
        assert_eq!(span("bytes=100-", 100), Span::Beyond);
        assert_eq!(span("bytes=-0", 100), Span::Beyond);
        for whole in ["bytes=5-4", "bytes=a-b", "lines=0-1", "bytes=0-1,3-4", "bytes"] {
            assert_eq!(span(whole, 100), Span::Whole, "{whole}");
        }
    }
}
