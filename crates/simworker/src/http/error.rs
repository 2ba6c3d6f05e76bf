//! Errors as vLLM words them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A request that is not answered.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    param: Option<&'static str>,
    message: String,
}

impl Failure {
    pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
        let status = StatusCode::BAD_REQUEST;
        Failure { status, kind: "BadRequestError", param: None, message: message.into() }
    }

    pub(crate) fn unknown_model(name: &str) -> Failure {
        Failure {
            status: StatusCode::NOT_FOUND,
            kind: "NotFoundError",
            param: Some("model"),
            message: format!("The model `{name}` does not exist."),
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Failure { status, kind: "InternalServerError", param: None, message: message.into() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = self.status.as_u16();
        let Failure { kind, param, message, .. } = self;
        let error = json!({ "message": message, "type": kind, "param": param, "code": code });
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}
