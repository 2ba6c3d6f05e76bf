//! `POST /v1/route`: hashes in, a decision out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use warmpath_protocol::{MESSAGE_PACK, RouteRequest};

use super::error::read_json;
use super::{Api, ApiError};
use crate::router::{Asked, Question, Record};

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
    let decided = match body.map_err(ApiError::from) {
        Ok(body) => match ask(&api, &body, sent, |_| patience(&headers)) {
            Ok(Asked::Decided(record)) => Ok(record),
            // A client that leaves drops it.
            Ok(Asked::Held(held)) => held.await.map_err(ApiError::from),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match decided {
        Ok(record) => wanted.respond(StatusCode::OK, &record.decision),
        Err(error) => {
            api.metrics.refused(&error);
            error.form(wanted).into_response()
        }
    }
}

/// How long a client waits for a decision beyond what that takes: `prefer: wait=N`, in
/// seconds (RFC 7240).
fn patience(headers: &HeaderMap) -> Duration {
    let prefers = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    let wait = prefers
        .flat_map(|value| value.split(','))
        .find_map(|one| one.trim().strip_prefix("wait=")?.trim().parse::<u32>().ok());
    Duration::from_secs(wait.unwrap_or(0).into())
}

/// Reads a request and decides, or holds it for as long as its asker waits.
pub(super) fn ask(
    api: &Api,
    body: &[u8],
    form: Form,
    patience: impl FnOnce(&RouteRequest) -> Duration,
) -> Result<Asked, ApiError> {
    let started = Instant::now();
    let request: RouteRequest = form.read(body)?;
    let patience = patience(&request);
    Ok(api.router.ask(api.router.question(request)?, started, patience)?)
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
