//! `POST /v1/route`: hashes in, a decision out.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use warmpath_protocol::MESSAGE_PACK;

use super::error::read_json;
use super::{Api, ApiError};
use crate::router::{Question, Record};

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON; whatever does not say that it is MessagePack.
    Json,
    /// MessagePack with named fields.
    MessagePack,
}

impl Form {
    fn named(headers: &HeaderMap, name: header::HeaderName) -> Option<Self> {
        let value = headers.get(name)?.to_str().ok()?;
        let media = |media: &str| match media.split(';').next().unwrap_or("").trim() {
            MESSAGE_PACK | "application/x-msgpack" | "application/vnd.msgpack" => {
                Some(Self::MessagePack)
            }
            "application/json" => Some(Self::Json),
            _ => None,
        };
        value.split(',').find_map(media)
    }

    /// Of the request's body.
    pub(super) fn sent(headers: &HeaderMap) -> Self {
        Self::named(headers, header::CONTENT_TYPE).unwrap_or(Self::Json)
    }

    /// Reads a body in this encoding.
    pub(super) fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, ApiError> {
        match self {
            Self::Json => read_json(body),
            Self::MessagePack => rmp_serde::from_slice(body).map_err(|error| {
                ApiError::bad_request(format!("the body can not be read: {error}"))
            }),
        }
    }

    /// Of the answer: the request's own unless `accept` names one.
    pub(super) fn wanted(headers: &HeaderMap, sent: Self) -> Self {
        Self::named(headers, header::ACCEPT).unwrap_or(sent)
    }
}

pub(super) async fn route(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let sent = Form::sent(&headers);
    let wanted = Form::wanted(&headers, sent);
    let decided = body.map_err(ApiError::from).and_then(|body| decided(&api, &body, sent));
    match decided {
        Ok(record) => wanted.respond(StatusCode::OK, &record.decision),
        Err(error) => {
            api.metrics.refused(&error);
            error.form(wanted).into_response()
        }
    }
}

/// Reads a request and decides.
pub(super) fn decided(api: &Api, body: &[u8], form: Form) -> Result<Arc<Record>, ApiError> {
    let started = Instant::now();
    api.decide(api.router.question(form.read(body)?)?, started)
}

impl Api {
    /// Decides, in the API's own errors.
    pub(super) fn decide(
        &self,
        question: Question,
        started: Instant,
    ) -> Result<Arc<Record>, ApiError> {
        Ok(self.router.decide(question, started)?)
    }
}
