//! `/healthz`, `/readyz` and `/metrics`, on a thread of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router as Paths;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::route::Form;
use super::{Api, ApiError};

/// How long an event source may keep the indexer from being ready: an engine
/// that is down must not keep the healthy ones from being used.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the admin paths work with.
pub struct Admin {
    api: Arc<Api>,
    registry: Registry,
}

impl Admin {
    /// Admin of an API, with every component's metrics.
    pub fn new(api: Arc<Api>, registry: Registry) -> Self {
        Self { api, registry }
    }

    /// What is still missing; empty when ready.
    fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = self
            .api
            .catalog
            .unsettled()
            .into_iter()
            .map(|model| format!("model {model:?} is still compiling"))
            .collect();
        let view = self.api.fleet.view();
        for worker in view.workers() {
            if worker.config.events.is_none() || worker.added.elapsed() > PATIENCE {
                continue;
            }
            for rank in &worker.ranks {
                let status = rank.status.snapshot();
                let state = match (status.connected, status.synced) {
                    (true, true) => continue,
                    // Some engines have no events before their first request.
                    _ if status.degraded().is_some() => continue,
                    (true, false) => "replay not finished",
                    (false, _) => "not connected",
                };
                missing.push(format!(
                    "events of worker {:?} rank {}: {state}",
                    worker.name, rank.rank
                ));
            }
        }
        missing
    }
}

/// The admin paths.
pub fn admin(admin: Arc<Admin>) -> Paths {
    Paths::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async |uri: Uri| ApiError::not_found(format!("no path {}", uri.path())))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let missing = admin.missing();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Form::Json.respond(status, &json!({ "ready": missing.is_empty(), "missing": missing }))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut page = String::new();
    match encode(&mut page, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, KIND)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
