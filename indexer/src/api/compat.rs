//! `POST /find_best_worker`, as the stand-alone routers of Dynamo's examples
//! have it (hashes) and Dynamo's standalone router (token ids): one model, worker
//! ids that are numbers.

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
    /// The example's form: hashes of full blocks, and the prompt's length.
    local_hashes: Option<Vec<Hash>>,
    num_tokens: Option<i64>,
    /// The standalone router's form: the prompt itself.
    token_ids: Option<Vec<u32>>,
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
    let (tokens, hashes) =
        prompt(api, request.local_hashes, request.num_tokens, request.token_ids)?;
    let question = Question::new(request.request_id, None, tokens, hashes);
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

/// Length and hashes of the prompt, in whichever form it came.
fn prompt(
    api: &Api,
    local_hashes: Option<Vec<Hash>>,
    num_tokens: Option<i64>,
    token_ids: Option<Vec<u32>>,
) -> Result<(u64, Hashes), ApiError> {
    match (local_hashes, num_tokens, token_ids) {
        (Some(hashes), Some(tokens), None) => {
            let tokens = u64::try_from(tokens)
                .ok()
                .filter(|tokens| *tokens > 0)
                .ok_or_else(|| ApiError::bad_request("num_tokens must be positive"))?;
            Ok((tokens, Hashes::Unsized(hashes.into_iter().map(|hash| hash.0).collect())))
        }
        (None, None, Some(tokens)) if !tokens.is_empty() => {
            let hashed = |size: u32| {
                (size, warmpath_blocks::local_hashes(&tokens, size as usize, warmpath_blocks::SEED))
            };
            let sizes = api.fleet.view().all_block_sizes();
            let hashes = Hashes::BySize(sizes.into_iter().map(hashed).collect());
            Ok((tokens.len() as u64, hashes))
        }
        (None, None, Some(_)) => Err(ApiError::bad_request("token_ids is empty")),
        _ => Err(ApiError::bad_request("send either local_hashes and num_tokens, or token_ids")),
    }
}
