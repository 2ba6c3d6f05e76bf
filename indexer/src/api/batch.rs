//! `POST /v1/route/batch`: many prompts, placed together.
//!
//! Each request is booked before the next one is decided, and those with a common
//! prefix follow each other, so that they land on one worker up to what it can take
//! and the rest is spread: a decision of its own for the batch as a whole would be a
//! second policy beside the one that is configured. An item that is wrong has its
//! error in its own place, and only there.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use warmpath_protocol::{Decision, ErrorBody, RouteRequest};

use super::error::read_json;
use super::route::Form;
use super::{Api, ApiError};
use crate::router::{Question, Record};

#[derive(Deserialize)]
struct Request<'a> {
    /// Read one by one: what is wrong with one is its own affair.
    #[serde(borrow)]
    requests: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct Answer<'a> {
    decisions: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Decided(&'a Decision),
    Refused(ErrorBody),
}

pub(super) async fn route_batch(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body?;
    let request: Request<'_> = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body can not be read: {error}")))?;
    let placed = place(&api, &request.requests);
    let decisions = placed
        .iter()
        .map(|one| match one {
            Ok(record) => Item::Decided(&record.decision),
            Err(error) => {
                api.metrics.refused(error);
                Item::Refused(error.clone().into())
            }
        })
        .collect();
    Ok(Form::Json.respond(StatusCode::OK, &Answer { decisions }))
}

type Placed = Result<Arc<Record>, ApiError>;

/// A decision for each request, in the requests' order.
fn place(api: &Api, requests: &[&RawValue]) -> Vec<Placed> {
    let questions: Vec<Result<Question, ApiError>> = requests
        .iter()
        .map(|request| {
            let request: RouteRequest = read_json(request.get().as_bytes())?;
            Ok(api.router.question(request)?)
        })
        .collect();
    let mut order: Vec<usize> = (0..questions.len()).collect();
    let prefix = |at: &usize| questions[*at].as_ref().ok().map(|one| (one.model, one.hashes.any()));
    order.sort_by(|one, other| prefix(one).cmp(&prefix(other)));
    let mut placed: Vec<Option<Placed>> = questions.iter().map(|_| None).collect();
    let mut questions: Vec<_> = questions.into_iter().map(Some).collect();
    for at in order {
        let question = questions[at].take();
        placed[at] = question.map(|question| api.decide(question?, Instant::now()));
    }
    placed.into_iter().flatten().collect()
}
