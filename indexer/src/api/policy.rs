//! `/v1/policy`: what decides, and how; changed without a restart.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::error::read_json;
use super::route::Form;
use super::{Api, ApiError};
use crate::policy::{self, Policies, Settings};

pub(super) async fn get(State(api): State<Arc<Api>>) -> Response {
    Form::Json.respond(StatusCode::OK, &report(api.router.policies().settings()))
}

/// Takes the configuration's fields `policy` and `policies`; what is not said
/// goes back to its default, so that one body means one state.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let tree: Value = read_json(&body?)?;
    let settings =
        Settings::from_tree(&tree).map_err(|errors| ApiError::bad_request(errors.to_string()))?;
    let policies =
        Policies::new(settings).map_err(|error| ApiError::bad_request(error.to_string()))?;
    tracing::info!(policy = policies.settings().policy, "another policy decides");
    let answer = report(policies.settings());
    api.router.set_policies(policies);
    Ok(Form::Json.respond(StatusCode::OK, &answer))
}

fn report(settings: &Settings) -> Value {
    json!({ "policy": settings.policy, "policies": settings, "known": policy::names() })
}
