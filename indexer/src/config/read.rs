//! The tree to the types: names, defaults, bounds.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::fields::Fields;
use super::policies;
use super::{
    Config, EventsConfig, HealthConfig, IndexConfig, LoadConfig, ModelConfig, WorkerConfig,
};
use crate::predict::PredictConfig;

const ADDRESS: &str = "an address ip:port";
const HOUR_MS: u64 = 3_600_000;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn config(tree: &Value, errors: &mut Vec<String>) -> Config {
    let mut fields = Fields::of(tree, "", errors);
    let mut config = Config {
        listen: fields.parsed("listen", ADDRESS).unwrap_or(local(7000)),
        unix_socket: fields.text("unix_socket").map(Into::into),
        admin: fields.parsed("admin", ADDRESS).unwrap_or(local(7001)),
        policy: policies::settings(&mut fields),
        book: fields.nested("book", policies::book).unwrap_or_default(),
        load_stale_ms: fields.number("load_stale_ms", 1, HOUR_MS).unwrap_or(10_000),
        decisions: fields.number("decisions", 0, 1 << 20).map_or(1024, count),
        max_body_bytes: fields.number("max_body_bytes", 1 << 10, 1 << 30).map_or(16 << 20, count),
        max_text_bytes: fields.number("max_text_bytes", 1 << 10, 1 << 40).map_or(64 << 20, count),
        kv_events: fields.truth("kv_events").unwrap_or(true),
        predict: fields.nested("predict", predict).unwrap_or_default(),
        saturation: fields.nested("saturation", policies::saturation).unwrap_or_default(),
        index: fields.nested("index", index).unwrap_or_default(),
        models: Vec::new(),
        workers: Vec::new(),
    };
    let models = fields.list("models");
    let workers = fields.list("workers");
    fields.finish();
    config.models = models.into_iter().map(|(path, tree)| model(tree, &path, errors)).collect();
    let names: Vec<&str> = config.models.iter().map(|model| model.name.as_str()).collect();
    config.workers =
        workers.into_iter().map(|(path, tree)| worker(tree, &path, &names, errors)).collect();
    config
}

fn predict(mut fields: Fields<'_, '_>) -> PredictConfig {
    let default = PredictConfig::default();
    let predict = PredictConfig {
        ttl_ms: fields.number("ttl_ms", 0, HOUR_MS).unwrap_or(default.ttl_ms),
        beside_events_ms: fields
            .number("beside_events_ms", 0, HOUR_MS)
            .unwrap_or(default.beside_events_ms),
    };
    fields.finish();
    predict
}

fn index(mut fields: Fields<'_, '_>) -> IndexConfig {
    let default = IndexConfig::default();
    let index = IndexConfig {
        max_bytes: fields.number("max_bytes", 0, u64::MAX).unwrap_or(default.max_bytes),
        snapshot: fields.text("snapshot").map(Into::into),
        snapshot_threshold: fields
            .number("snapshot_threshold", 1, u64::MAX)
            .unwrap_or(default.snapshot_threshold),
        reset: fields.truth("reset").unwrap_or(default.reset),
    };
    if (1..1 << 20).contains(&index.max_bytes) {
        fields.error("max_bytes", "expected 0 for no ceiling, or at least 1048576");
    }
    fields.finish();
    index
}

fn model(tree: &Value, path: &str, errors: &mut Vec<String>) -> ModelConfig {
    let mut fields = Fields::of(tree, path, errors);
    let model = ModelConfig {
        name: fields.required("name").unwrap_or_default(),
        path: fields.text("path").map(Into::into),
        aliases: fields.texts("aliases"),
        adapters: fields.texts("adapters"),
        block_size: fields.number("block_size", 1, 1 << 16).map(small),
    };
    fields.finish();
    model
}

pub(super) fn worker(
    tree: &Value,
    path: &str,
    models: &[&str],
    errors: &mut Vec<String>,
) -> WorkerConfig {
    let mut fields = Fields::of(tree, path, errors);
    let id = fields.required("id").unwrap_or_default();
    let model = match models {
        [only] => fields.text("model").unwrap_or_else(|| (*only).to_owned()),
        _ => fields.required("model").unwrap_or_default(),
    };
    let worker = WorkerConfig {
        model,
        endpoint: fields.required("endpoint").unwrap_or_default(),
        cluster: fields.text("cluster").unwrap_or_else(|| format!("worker-{id}")),
        ranks: fields.number("ranks", 1, 1024).map_or(1, small),
        events: fields.nested("events", events),
        total_kv_blocks: fields.number("total_kv_blocks", 1, u64::from(u32::MAX)),
        max_num_batched_tokens: fields.number("max_num_batched_tokens", 1, u64::from(u32::MAX)),
        load: fields.nested("load", load).unwrap_or_default(),
        health: fields.nested("health", health).unwrap_or_default(),
        id,
    };
    fields.finish();
    worker
}

fn events(mut fields: Fields<'_, '_>) -> EventsConfig {
    let events = EventsConfig {
        endpoint: fields.required("endpoint").unwrap_or_default(),
        replay: fields.text("replay"),
        bind: fields.truth("bind").unwrap_or(false),
        topic: fields.text("topic").unwrap_or_default(),
        interval_ms: fields.number("interval_ms", 10, HOUR_MS).unwrap_or(100),
    };
    fields.finish();
    events
}

fn load(mut fields: Fields<'_, '_>) -> LoadConfig {
    let load = LoadConfig {
        zmq: fields.text("zmq"),
        prometheus: fields.text("prometheus"),
        interval_ms: fields.number("interval_ms", 10, HOUR_MS).unwrap_or(500),
    };
    fields.finish();
    load
}

fn health(mut fields: Fields<'_, '_>) -> HealthConfig {
    let default = HealthConfig::default();
    let health = HealthConfig {
        path: fields.text("path").unwrap_or(default.path),
        interval_ms: fields.number("interval_ms", 0, HOUR_MS).unwrap_or(default.interval_ms),
        timeout_ms: fields.number("timeout_ms", 1, HOUR_MS).unwrap_or(default.timeout_ms),
    };
    fields.finish();
    health
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { path: "/health".to_owned(), interval_ms: 1000, timeout_ms: 5000 }
    }
}
