//! `/v1/decisions`: why that worker.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::route::Form;
use super::{Api, ApiError};

#[derive(Deserialize)]
pub(super) struct Which {
    last: Option<usize>,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(which) = which?;
    let records = api.router.ring.last(which.last.unwrap_or(20));
    let records: Vec<Value> = records.iter().map(|record| record.report()).collect();
    Ok(Form::Json.respond(StatusCode::OK, &json!({ "decisions": records })))
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    request_id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(request_id) = request_id?;
    let record = api.router.ring.find(&request_id).ok_or_else(|| {
        ApiError::not_found(format!("no decision for {request_id:?} is remembered"))
    })?;
    Ok(Form::Json.respond(StatusCode::OK, &record.report()))
}
