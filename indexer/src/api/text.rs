//! `POST /v1/route/text`: the client's own body in, tokenized here.
//!
//! The fallback for models whose tokenizer does not run in the filter. The text
//! is tokenized on the blocking threads: long prompts take milliseconds, and a
//! decision of the ordinary kind must not stand behind one.
//!
//! Those threads have a queue without an end. So texts are let in up to a number of
//! bytes, counted before a body is read until its prompt is tokenized, also where the
//! client has left by then; what does not fit is refused at once, and its request goes on by
//! Envoy's own balancing. To let it wait was rejected: it would miss the filter's deadline.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warmpath_prompt::{Endpoint, Refusal};
use warmpath_protocol::{Pin, code};

use super::route::Form;
use super::{Api, ApiError};
use crate::router::{Hashes, Question, RouteError};

/// Of the query; other parameters are not ours to judge.
#[derive(Deserialize)]
pub(super) struct Where {
    path: Option<String>,
}

/// How many bytes of texts are read and tokenized at a time.
#[derive(Debug)]
pub struct TextLimit {
    /// In units of [`UNIT`].
    room: Arc<Semaphore>,
    all: u32,
}

/// Bytes that are counted together.
const UNIT: usize = 1 << 10;

impl TextLimit {
    /// A limit that nothing was counted against.
    pub fn new(bytes: usize) -> Self {
        let all = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Self { room: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Room for a body, for as long as it is kept; the largest fits where there is no other.
    fn admit(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, ApiError> {
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        // A body that does not say how long it is may be as long as any.
        let units = length
            .map_or(u32::MAX, |bytes| u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX));
        let units = units.clamp(1, self.all);
        Arc::clone(&self.room).try_acquire_many_owned(units).map_err(|_| {
            let message = "as many texts are being tokenized as max_text_bytes allows";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code::TEXT_BUSY, message)
        })
    }
}

pub(super) async fn route_text(State(api): State<Arc<Api>>, request: Request) -> Response {
    let started = Instant::now();
    match answer(&api, request, started).await {
        Ok(response) => response,
        Err(error) => {
            api.metrics.refused(&error);
            error.into_response()
        }
    }
}

async fn answer(api: &Arc<Api>, request: Request, started: Instant) -> Result<Response, ApiError> {
    let Query(query) = Query::<Where>::try_from_uri(request.uri())?;
    let headers = request.headers().clone();
    let room = api.texts.admit(&headers)?;
    let body = Bytes::from_request(request, api).await?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let path = header("x-warmpath-path").map(str::to_owned).or(query.path);
    let worker = Arc::clone(api);
    let prompt = tokio::task::spawn_blocking(move || {
        let _room = room;
        worker.tokenize(path.as_deref(), &body)
    });
    let prompt = prompt.await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, error.to_string())
    })??;
    let pin = header("x-warmpath-worker").map(str::parse::<Pin>).transpose();
    let question = Question {
        request_id: header("x-request-id").unwrap_or_default().to_owned(),
        pin: pin.map_err(|error| ApiError::bad_request(error.to_string()))?,
        policy: header("x-warmpath-policy").map(str::to_owned),
        explain: header("x-warmpath-explain") == Some("1"),
        ..prompt
    };
    let record = api.decide(question, started)?;
    Ok(Form::Json.respond(StatusCode::OK, &record.decision))
}

impl Api {
    /// Reads a client's body and hashes its first prompt.
    fn tokenize(&self, path: Option<&str>, body: &[u8]) -> Result<Question, ApiError> {
        let endpoint = match path {
            Some(path) => Endpoint::of_path(path).ok_or_else(|| {
                ApiError::bad_request(format!("{path:?} is no path of a known endpoint"))
            })?,
            None => shape(body),
        };
        let request = warmpath_prompt::parse(endpoint, body).map_err(|why| self.refused(&why))?;
        let (model, is_adapter) = self
            .names
            .find(&request.model)
            .ok_or_else(|| RouteError::UnknownModel(request.model.clone()))?;
        let tokenizer = self
            .catalog
            .native(model)
            .map_err(|why| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code::NOT_EXACT, why))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let prompts = tokenizer.tokenize(&request, now).map_err(|why| self.refused(&why))?;
        let tokens = prompts.ids.first().map_or(&[][..], Vec::as_slice);
        self.metrics.tokenized(self.names.name(model));

        let adapter = is_adapter.then_some(request.model.as_str());
        let seed = warmpath_blocks::seed(adapter, request.cache_salt.as_deref());
        let sizes = self.fleet.view().block_sizes(model);
        let hashed = |size: u32| (size, warmpath_blocks::local_hashes(tokens, size as usize, seed));
        let hashes = Hashes::BySize(sizes.into_iter().map(hashed).collect());
        Ok(Question {
            token_digest: Some(warmpath_blocks::token_digest(tokens)),
            ..Question::new(String::new(), Some(model), tokens.len() as u64, hashes)
        })
    }

    fn refused(&self, why: &Refusal) -> ApiError {
        self.metrics.not_exact(why.name());
        let message = format!("{} ({})", why, why.name());
        match why.name() {
            "not_json" | "no_model" | "invalid" => ApiError::bad_request(message),
            _ => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code::NOT_EXACT, message),
        }
    }
}

/// Which endpoint a body without a path is for.
fn shape(body: &[u8]) -> Endpoint {
    #[derive(Deserialize)]
    struct Shape {
        messages: Option<serde::de::IgnoredAny>,
    }
    let chat = serde_json::from_slice::<Shape>(body).is_ok_and(|shape| shape.messages.is_some());
    if chat { Endpoint::Chat } else { Endpoint::Completions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_LENGTH, bytes.into())])
    }

    #[test]
    fn texts_are_let_in_up_to_the_limit_and_again_when_others_are_done() {
        let limit = TextLimit::new(10 * UNIT);
        let first = limit.admit(&of(6 * UNIT)).unwrap();
        let error = limit.admit(&of(5 * UNIT)).unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (503, code::TEXT_BUSY));
        let _second = limit.admit(&of(4 * UNIT)).unwrap();
        drop(first);
        assert!(limit.admit(&of(6 * UNIT)).is_ok());
    }

    #[test]
    fn one_of_any_length_fits_where_there_is_no_other() {
        let limit = TextLimit::new(10 * UNIT);
        let unknown = limit.admit(&HeaderMap::new()).unwrap();
        assert!(limit.admit(&of(0)).is_err());
        drop(unknown);
        assert!(limit.admit(&of(usize::MAX)).is_ok());
    }
}
