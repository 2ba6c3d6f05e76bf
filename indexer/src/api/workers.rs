//! `/v1/workers`: who is there, who comes, who goes.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use warmpath_protocol::code;
use warmpath_radix::Tier;

use super::error::read_json;
use super::route::Form;
use super::{Api, ApiError};
use crate::config::WorkerConfig;
use crate::fleet::{AddError, Rank, Worker};

pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    let view = api.fleet.view();
    let workers: Vec<Value> = view.workers().iter().map(|worker| api.worker(worker)).collect();
    Form::Json.respond(StatusCode::OK, &json!({ "workers": workers }))
}

pub(super) async fn add(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let tree: Value = read_json(&body?)?;
    let config = WorkerConfig::from_tree(&tree, &api.names.base_names())
        .map_err(|errors| ApiError::bad_request(errors.to_string()))?;
    let worker = api.fleet.add(config).map_err(|error| match error {
        AddError::Exists(_) | AddError::Endpoint(..) => {
            ApiError::new(StatusCode::CONFLICT, code::CONFLICT, error.to_string())
        }
        AddError::Model(_) => ApiError::bad_request(error.to_string()),
    })?;
    Ok(Form::Json.respond(StatusCode::CREATED, &api.worker(&worker)))
}

pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id?;
    match api.fleet.remove(&id).await {
        Some(blocks) => {
            let gone = json!({ "id": id, "removed_blocks": blocks });
            Ok(Form::Json.respond(StatusCode::OK, &gone))
        }
        None => Err(ApiError::not_found(format!("no worker {id:?}; GET /v1/workers lists them"))),
    }
}

impl Api {
    fn worker(&self, worker: &Worker) -> Value {
        let ranks: Vec<Value> = worker.ranks.iter().map(|rank| self.rank(worker, rank)).collect();
        json!({
            "id": &*worker.name,
            "model": self.names.name(worker.model),
            "endpoint": worker.config.endpoint,
            "cluster": worker.config.cluster,
            "up": worker.health.is_up(),
            "ranks": ranks,
            "load_rejected": worker.load_rejected.counts(),
        })
    }

    fn rank(&self, worker: &Worker, rank: &Rank) -> Value {
        let now = Instant::now();
        let status = rank.status.snapshot();
        let load = rank.load.load(now);
        let in_flight = self.fleet.book().in_flight(&rank.book, now);
        let active_blocks = self.fleet.book().active().at(worker.holder(rank.rank));
        let age = status.last_event.map(|at| now.saturating_duration_since(at).as_millis());
        json!({
            "rank": rank.rank,
            "block_size": worker.block_size(rank),
            "blocks": self.fleet.index().blocks(worker.holder(rank.rank), Tier::Device),
            "predicted_blocks": self.fleet.index().predicted(worker.holder(rank.rank)),
            "total_kv_blocks": worker.kv_blocks(rank),
            "waiting": load.waiting,
            "running": load.running,
            "kv_usage": load.kv_usage,
            "in_flight": {
                "requests": in_flight.requests,
                "prefill_tokens": in_flight.prefill_tokens,
                "output_tokens": in_flight.output_tokens,
                "blocks": active_blocks,
                "prefill_tokens_per_second": in_flight.fit.rate(),
            },
            "events": {
                "configured": worker.config.events.is_some(),
                "connected": status.connected,
                "degraded": status.degraded(),
                "last_seq": status.last_seq,
                "age_ms": age.and_then(|age| u64::try_from(age).ok()),
                "batches": status.batches,
                "gaps": status.gaps,
                "lost_batches": status.lost_batches,
                "restarts": status.restarts,
                "rejected": status.rejected,
            },
        })
    }
}
