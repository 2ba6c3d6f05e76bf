//! `POST /v1/route/text`: the client's own body in, tokenized here.
//!
//! The fallback for models whose tokenizer does not run in the filter. The text
//! is tokenized on the blocking threads: long prompts take milliseconds, and a
//! decision of the ordinary kind must not stand behind one.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
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

pub(super) async fn route_text(
    State(api): State<Arc<Api>>,
    query: Result<Query<Where>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let started = Instant::now();
    match answer(&api, query, &headers, body, started).await {
        Ok(response) => response,
        Err(error) => {
            api.metrics.refused(&error);
            error.into_response()
        }
    }
}

async fn answer(
    api: &Arc<Api>,
    query: Result<Query<Where>, QueryRejection>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    started: Instant,
) -> Result<Response, ApiError> {
    let (body, Query(query)) = (body?, query?);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let path = header("x-warmpath-path").map(str::to_owned).or(query.path);
    let worker = Arc::clone(api);
    let prompt = tokio::task::spawn_blocking(move || worker.tokenize(path.as_deref(), &body));
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
        Ok(Question {
            request_id: String::new(),
            model: Some(model),
            tokens: tokens.len() as u64,
            hashes: Hashes::BySize(sizes.into_iter().map(hashed).collect()),
            policy: None,
            pin: None,
            exclude: Vec::new(),
            explain: false,
            token_digest: Some(warmpath_blocks::token_digest(tokens)),
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
