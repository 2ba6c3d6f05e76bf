//! `trtllm-serve` over HTTP, as the indexer asks it: events, load, failures.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use common::{Indexer, config, request, tokens};
use serde_json::{Value, json};

/// What the engine answers.
#[derive(Default)]
struct Says {
    /// Nobody has asked for these yet.
    events: Vec<Value>,
    iterations: Vec<Value>,
    failing: bool,
}

struct Engine {
    http: SocketAddr,
    says: Arc<Mutex<Says>>,
    next: u64,
}

impl Engine {
    async fn start() -> Self {
        let says = Arc::new(Mutex::new(Says { failing: true, ..Says::default() }));
        let (events, iterations) = (Arc::clone(&says), Arc::clone(&says));
        let drain = async move || {
            let mut says = events.lock().unwrap();
            match says.failing {
                true => Err((
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "IterationResult is not properly instantiated",
                )),
                false => Ok(axum::Json(std::mem::take(&mut says.events))),
            }
        };
        let page =
            async move || axum::Json(std::mem::take(&mut iterations.lock().unwrap().iterations));
        let paths = Router::new()
            .route("/health", get(async || StatusCode::OK))
            .route("/kv_cache_events", post(drain))
            .route("/metrics", get(page));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, paths).await });
        Self { http, says, next: 0 }
    }

    fn worker(&self, ranks: u32) -> Value {
        json!({
            "id": "0", "model": "m", "endpoint": self.http.to_string(), "ranks": ranks,
            "events": {
                "endpoint": format!("http://{}/kv_cache_events", self.http), "interval_ms": 20,
            },
            "load": { "prometheus": format!("http://{}/metrics", self.http), "interval_ms": 20 },
            "health": { "interval_ms": 50 },
        })
    }

    fn set(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    /// Stores the first blocks of [`tokens`], with or without saying of what tokens.
    fn store(&mut self, rank: u32, blocks: u64, told: bool) {
        let block = |at: u64| {
            let ids = &tokens(32 * blocks as u32)[32 * at as usize..][..32];
            let token =
                |id: &u32| json!({"type": "unique_token", "token_id": id, "token_extra_id": 0});
            let mut block =
                json!({"type": "stored_block", "block_hash": 500 + at, "cache_level": 0});
            if told {
                block["tokens"] = ids.iter().map(token).collect();
            }
            block
        };
        let blocks: Vec<Value> = (0..blocks).map(block).collect();
        let event = json!({
            "event_id": self.next, "window_size": 8192, "attention_dp_rank": rank,
            "data": {"type": "stored", "parent_hash": null, "blocks": blocks},
        });
        self.next += 1;
        self.set(|says| says.events.push(event));
    }
}

fn events(list: &Value) -> &Value {
    &list["workers"][0]["ranks"][0]["events"]
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_fail_leave_load_and_steer_as_soon_as_they_work() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(&[engine.worker(1)])).await;
    let gauge = "warmpath_events_degraded{worker=\"0\",rank=\"0\"}";
    indexer.until("/v1/workers", |list| events(list)["degraded"] == "status").await;
    assert_eq!(indexer.metric(gauge).await, 1.0);
    let asked = request(&tokens(100), 32);
    let (status, decision) = indexer.post("/v1/route", &asked).await;
    assert_eq!((status, &decision["reason"]), (StatusCode::OK, &json!("load")));

    engine.set(|says| says.failing = false);
    engine.store(0, 3, true);
    indexer.until("/v1/workers", |list| list["workers"][0]["ranks"][0]["blocks"] == 3).await;
    let list = indexer.until("/v1/workers", |list| events(list)["degraded"].is_null()).await;
    assert_eq!(list["workers"][0]["ranks"][0]["block_size"], 32);
    let (_, decision) = indexer.post("/v1/route", &asked).await;
    assert_eq!((&decision["reason"], &decision["overlap_blocks"]), (&json!("prefix"), &json!(3)));
    assert_eq!(indexer.metric(gauge).await, 0.0);
    let times = "warmpath_events_degradations_total{worker=\"0\",rank=\"0\"}";
    assert_eq!(indexer.metric(times).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_tokens_degrade_a_worker_until_they_come_with_them() {
    let mut engine = Engine::start().await;
    engine.set(|says| says.failing = false);
    engine.store(0, 2, false);
    let indexer = Indexer::start(config(&[engine.worker(1)])).await;
    indexer.until("/v1/workers", |list| events(list)["degraded"] == "no_tokens").await;
    let (_, decision) = indexer.post("/v1/route", &request(&tokens(100), 32)).await;
    assert_eq!((&decision["worker"], &decision["reason"]), (&json!("0"), &json!("load")));
    engine.store(0, 2, true);
    indexer.until("/v1/workers", |list| events(list)["degraded"].is_null()).await;
    assert_eq!(events(&indexer.get("/v1/workers").await.1)["rejected"]["no_tokens"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn iterations_tell_the_load_of_each_rank() {
    let mut engine = Engine::start().await;
    let iteration = |rank: u32, queued: u32| {
        json!({
            "iter": 7, "attentionDpRank": rank, "numActiveRequests": 3, "numQueuedRequests": queued,
            "inflightBatchingStats": {"numPausedRequests": 1},
            "kvCacheStats": {"maxNumBlocks": 100, "usedNumBlocks": 25, "tokensPerBlock": 32},
        })
    };
    engine.set(|says| {
        says.failing = false;
        says.iterations = vec![iteration(0, 9), iteration(1, 6), iteration(0, 4)];
    });
    engine.store(1, 2, true);
    let indexer = Indexer::start(config(&[engine.worker(2)])).await;
    let rank = |list: &Value, at: usize| list["workers"][0]["ranks"][at].clone();
    let list = indexer.until("/v1/workers", |list| rank(list, 1)["blocks"] == 2).await;
    assert_eq!(rank(&list, 0)["blocks"], 0);
    let list = indexer.until("/v1/workers", |list| rank(list, 0)["waiting"] == 5.0).await;
    assert_eq!(
        (&rank(&list, 0)["running"], &rank(&list, 0)["kv_usage"]),
        (&json!(2.0), &json!(0.25))
    );
    assert_eq!(rank(&list, 1)["waiting"], 7.0);
    // The engine iterates no more: it has nothing to do.
    indexer.until("/v1/workers", |list| rank(list, 0)["waiting"] == 0.0).await;
    let (_, decision) = indexer.post("/v1/route", &request(&tokens(100), 32)).await;
    assert_eq!((&decision["worker"], &decision["rank"]), (&json!("0"), &json!(1)));
}
