//! `POST /find_best_worker`, as the stand-alone routers of Dynamo's examples
//! have it: one model, one block size, worker ids that are numbers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use warmpath_protocol::Hash;

use super::error::read_json;
use super::route::Form;
use super::{Api, ApiError};
use crate::router::{Hashes, Question};

#[derive(Deserialize)]
struct Request {
    local_hashes: Vec<Hash>,
    num_tokens: i64,
    /// Not in the seeds' first version; what `/free` names later.
    #[serde(default)]
    request_id: String,
}

#[derive(Serialize)]
struct Answer {
    worker_id: Id,
    /// Share of the prompt that the worker holds.
    overlap: f64,
    matched_blocks: u32,
}

/// The seeds number their workers; an id that is no number stays a text.
#[derive(Serialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

pub(super) async fn find_best_worker(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match answer(&api, body) {
        Ok(answer) => Form::Json.respond(StatusCode::OK, &answer),
        Err(error) => {
            api.metrics.refused(&error);
            error.into_response()
        }
    }
}

fn answer(api: &Api, body: Result<Bytes, BytesRejection>) -> Result<Answer, ApiError> {
    let started = Instant::now();
    let request: Request = read_json(&body?)?;
    let tokens = u64::try_from(request.num_tokens)
        .ok()
        .filter(|tokens| *tokens > 0)
        .ok_or_else(|| ApiError::bad_request("num_tokens must be positive"))?;
    let question = Question {
        request_id: request.request_id,
        model: None,
        tokens,
        hashes: Hashes::Unsized(request.local_hashes.into_iter().map(|hash| hash.0).collect()),
        policy: None,
        pin: None,
        exclude: Vec::new(),
        explain: false,
        token_digest: None,
    };
    let record = api.decide(question, started)?;
    let decision = &record.decision;
    let held = u64::from(decision.overlap_blocks) * u64::from(decision.block_size);
    let id = &decision.worker;
    Ok(Answer {
        worker_id: id.parse().map_or_else(|_| Id::Text(id.clone()), Id::Number),
        overlap: held as f64 / tokens as f64,
        matched_blocks: decision.overlap_blocks,
    })
}
