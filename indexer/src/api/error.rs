//! The one form of every refusal.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use warmpath_protocol::{ErrorBody, JSON, MESSAGE_PACK, code};

use super::route::Form;
use crate::router::RouteError;

/// A refusal, with its status.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    form: Form,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
}

impl ApiError {
    /// A refusal in JSON.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), form: Form::Json, retry_after: None }
    }

    /// 400: what was sent can not be read.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::BAD_REQUEST, message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code::NOT_FOUND, message)
    }

    /// The same refusal in another encoding.
    pub fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The code of the body.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl From<ApiError> for ErrorBody {
    fn from(error: ApiError) -> Self {
        let mut body = Self::new(error.code, error.message);
        body.error.retry_after = error.retry_after;
        body
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        let status = match error {
            RouteError::UnknownModel(_) => StatusCode::NOT_FOUND,
            RouteError::BlockSize(_) => StatusCode::BAD_REQUEST,
            RouteError::UnknownPolicy(_) | RouteError::Pin(..) => StatusCode::UNPROCESSABLE_ENTITY,
            RouteError::NoWorker | RouteError::Saturated(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let retry_after = match error {
            RouteError::Saturated(seconds) => Some(seconds),
            _ => None,
        };
        Self { retry_after, ..Self::new(status, error.code(), error.to_string()) }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), code::BAD_REQUEST, rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (form, status, retry_after) = (self.form, self.status, self.retry_after);
        let mut response = form.respond(status, &ErrorBody::from(self));
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Reads a JSON body; the message of serde names the field and the place.
pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body can not be read: {error}")))
}

impl Form {
    /// Encodes a body.
    pub(super) fn respond<T: serde::Serialize>(self, status: StatusCode, body: &T) -> Response {
        let encoded = match self {
            Self::Json => serde_json::to_vec(body).map_err(|error| error.to_string()),
            Self::MessagePack => rmp_serde::to_vec_named(body).map_err(|error| error.to_string()),
        };
        let kind = match self {
            Self::Json => JSON,
            Self::MessagePack => MESSAGE_PACK,
        };
        match encoded {
            Ok(bytes) => (status, [(header::CONTENT_TYPE, kind)], bytes).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
        }
    }
}
