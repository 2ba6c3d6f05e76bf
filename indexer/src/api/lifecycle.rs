//! `POST /v1/lifecycle` and the seeds' `POST /free`: what became of requests.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use warmpath_protocol::LifecycleReport;

use super::error::read_json;
use super::route::Form;
use super::{Api, ApiError};

/// A batch with nothing to say of a request is answered 200 all the same: the
/// filter can do nothing about an id that expired, and its other reports count.
pub(super) async fn lifecycle(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let sent = Form::sent(&headers);
    let wanted = Form::wanted(&headers, sent);
    let reports: Vec<LifecycleReport> = body
        .map_err(ApiError::from)
        .and_then(|body| sent.read(&body))
        .map_err(|e| e.form(wanted))?;
    let answer = api.fleet.book().report(reports, Instant::now());
    api.router.wake();
    Ok(wanted.respond(StatusCode::OK, &answer))
}

#[derive(Deserialize)]
struct Free {
    request_id: String,
}

pub(super) async fn free(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let Free { request_id } = read_json(&body?)?;
    if api.fleet.book().free(&request_id, Instant::now()) {
        api.router.wake();
        return Ok(Form::Json.respond(StatusCode::OK, &json!({ "status": "ok" })));
    }
    Err(ApiError::not_found(format!(
        "no request {request_id:?} in flight: it was never routed here, has ended or has expired"
    )))
}
