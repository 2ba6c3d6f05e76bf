//! The server of one worker: vLLM's endpoints, those that take prompts and others.

mod answer;
mod error;
mod generate;
mod metrics;
mod other;
mod params;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;
use warmpath_prompt::Endpoint;

use crate::buffer::Drained;
use crate::driver::{Command, Rank};
use crate::text::Text;
use crate::{EngineKind, Options};

pub(crate) use error::Failure;

/// Why an answer ended, as the API and the metrics say it.
pub(crate) const FINISH_REASONS: [&str; 3] = ["stop", "length", "abort"];

/// Everything a handler needs.
pub(crate) struct App {
    pub(crate) options: Arc<Options>,
    pub(crate) text: Arc<Text>,
    pub(crate) ranks: Vec<Arc<Rank>>,
    /// Events that nobody has asked for.
    drained: Drained,
    /// Start of this life in Unix seconds.
    pub(crate) started: f64,
    next_id: AtomicU64,
    turn: AtomicUsize,
}

impl App {
    pub(crate) fn new(
        options: Arc<Options>,
        text: Arc<Text>,
        ranks: Vec<Arc<Rank>>,
        drained: Drained,
    ) -> App {
        let (next_id, turn) = (AtomicU64::new(1), AtomicUsize::new(0));
        App { options, text, ranks, drained, started: unix_seconds(), next_id, turn }
    }

    /// `count` ids for requests, the first of them.
    fn ids(&self, count: usize) -> u64 {
        self.next_id.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// The rank with the least load; equal ones in turn.
    fn least_loaded(&self) -> &Arc<Rank> {
        let count = self.ranks.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let order = (0..count).map(|at| &self.ranks[(turn + at) % count]);
        order.min_by_key(|rank| rank.load()).unwrap_or(&self.ranks[0])
    }
}

/// All routes of a worker.
pub(crate) fn router(app: Arc<App>) -> Router {
    let own = match app.options.engine {
        EngineKind::Vllm | EngineKind::Sglang => Router::new().route("/metrics", get(prometheus)),
        EngineKind::TrtllmZmq | EngineKind::TrtllmHttp => Router::new()
            .route("/metrics", get(iterations))
            .route("/prometheus/metrics", get(prometheus)),
        EngineKind::TrtllmSeed => Router::new(),
    };
    let own = match app.options.engine {
        EngineKind::TrtllmHttp => own.route("/kv_cache_events", post(events)),
        _ => own,
    };
    own.route("/v1/chat/completions", post(prompt))
        .route("/v1/completions", post(prompt))
        .route("/v1/responses", post(prompt))
        .route("/v1/messages", post(prompt))
        .route("/v1/embeddings", post(prompt))
        .route("/pooling", post(prompt))
        .route("/classify", post(prompt))
        .route("/score", post(prompt))
        .route("/v1/score", post(prompt))
        .route("/rerank", post(prompt))
        .route("/v1/rerank", post(prompt))
        .route("/v2/rerank", post(prompt))
        .route("/inference/v1/generate", post(prompt))
        .route("/v1/models", get(models))
        .route("/tokenize", post(tokenize))
        .route("/reset_prefix_cache", post(reset))
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/version", get(version))
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

pub(crate) fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

type Shared = State<Arc<App>>;

async fn prompt(
    State(app): Shared,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let endpoint = Endpoint::of_path(uri.path());
    let endpoint = endpoint.ok_or_else(|| Failure::internal("a route without an endpoint"))?;
    generate::generate(app, endpoint, &headers, &body).await
}

async fn models(State(app): Shared) -> Response {
    let base = app.options.model_name();
    let created = unix_seconds() as u64;
    let card = |id: &str, root: &str, parent: Option<&str>| {
        json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": root,
            "parent": parent, "max_model_len": parent.is_none().then_some(app.options.max_model_len),
            "permission": [],
        })
    };
    let root = app.options.model_path.display().to_string();
    let adapters = app.options.lora.iter().map(|name| card(name, name, Some(&base)));
    let cards: Vec<_> = [card(&base, &root, None)].into_iter().chain(adapters).collect();
    Json(json!({ "object": "list", "data": cards })).into_response()
}

/// vLLM's `/tokenize`: the ids that the engine computes for a prompt or a conversation.
async fn tokenize(State(app): Shared, body: Bytes) -> Result<Response, Failure> {
    let params = params::Params::parse(&body)?;
    let endpoint = if params.messages.is_some() { Endpoint::Chat } else { Endpoint::Completions };
    let (request, _) = generate::admit(&app, endpoint, &params, &body)?;
    let prompts = generate::tokenize(&app, request).await?;
    let tokens = prompts.first().cloned().unwrap_or_default();
    let max = app.options.max_model_len;
    let count = tokens.len();
    let body =
        json!({ "count": count, "max_model_len": max, "tokens": tokens, "token_strs": null });
    Ok(Json(body).into_response())
}

#[derive(Deserialize)]
struct ResetQuery {
    #[serde(default)]
    reset_running_requests: bool,
}

async fn reset(State(app): Shared, Query(query): Query<ResetQuery>) -> Response {
    let success = reset_ranks(&app.ranks, query.reset_running_requests).await;
    Json(json!({ "success": success })).into_response()
}

/// Empties the caches of all ranks; true where all could.
pub(crate) async fn reset_ranks(ranks: &[Arc<Rank>], restart_running: bool) -> bool {
    let mut success = true;
    for rank in ranks {
        let (done, answer) = oneshot::channel();
        let command = Command::Reset { restart_running, done };
        success &= rank.commands.send(command).is_ok() && answer.await.unwrap_or(false);
    }
    success
}

async fn version(State(app): Shared) -> Response {
    let release = app.options.engine.layout(app.options.event_layout).release;
    Json(json!({ "version": release })).into_response()
}

/// `trtllm-serve`'s page: what happened since it was last asked for.
async fn iterations(State(app): Shared) -> Response {
    Json(metrics::iterations(&app)).into_response()
}

/// The events that nobody has asked for; then nobody can again.
async fn events(State(app): Shared) -> Result<Response, Failure> {
    let served = app.ranks.iter().any(|rank| rank.generated_tokens.load(Ordering::Relaxed) > 0);
    if app.options.events_after_first_request && !served {
        return Err(Failure::internal("IterationResult is not properly instantiated."));
    }
    let events: Vec<_> = app.drained.lock().drain(..).collect();
    Ok(Json(events).into_response())
}

async fn prometheus(State(app): Shared) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, metrics::page(&app)).into_response()
}
