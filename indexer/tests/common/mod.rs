//! An indexer on free ports, and a fake engine to follow.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warmpath_indexer::app::{Listeners, RunError, run};
use warmpath_indexer::config::Config;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

/// A running indexer; it stops when dropped.
pub struct Indexer {
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub client: reqwest::Client,
    shutdown: CancellationToken,
    task: Option<JoinHandle<Result<(), RunError>>>,
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Indexer {
    /// Starts one with this configuration, except where it listens.
    pub async fn start(mut config: Value) -> Self {
        config["listen"] = json!("127.0.0.1:0");
        config["admin"] = json!("127.0.0.1:0");
        let config = Config::from_tree(&config).unwrap();
        let listeners = Listeners::bind(&config).unwrap();
        let api = listeners.api.local_addr().unwrap();
        let admin = listeners.admin.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(config, listeners, shutdown.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { api, admin, client, shutdown, task: Some(task) }
    }

    /// Stops it and waits until it has.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let task = self.task.take().unwrap();
        tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap().unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.client.post(self.url(path)).json(body).send().await.unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        answer(self.client.delete(self.url(path)).send().await.unwrap()).await
    }

    /// A page of the admin port.
    pub async fn admin(&self, path: &str) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.admin);
        let answer = self.client.get(url).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// The value of a metric, its labels included; 0 where it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.admin("/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until `check` of a GET's answer holds.
    pub async fn until(&self, path: &str, check: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..2400 {
            last = self.get(path).await.1;
            if check(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{path} never came to it; last: {last:#}");
    }
}

async fn answer(answer: reqwest::Response) -> (StatusCode, Value) {
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("not JSON: {body:?}")))
}

/// An engine that says what the test wants.
pub struct Engine {
    pub http: SocketAddr,
    pub events: String,
    pub load: String,
    healthy: Arc<AtomicBool>,
    events_socket: PubSocket,
    load_socket: PubSocket,
    seq: u64,
    server: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A `BlockStored` as engines write it.
#[derive(Serialize)]
struct Stored<'a> {
    r#type: &'a str,
    block_hashes: &'a [u64],
    parent_block_hash: Option<u64>,
    token_ids: &'a [u32],
    block_size: u32,
}

impl Engine {
    pub async fn start() -> Self {
        let healthy = Arc::new(AtomicBool::new(true));
        let health = Arc::clone(&healthy);
        let paths = axum::Router::new()
            .route(
                "/health",
                axum::routing::get(async move || match health.load(Ordering::Relaxed) {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                }),
            )
            .route(
                "/metrics",
                axum::routing::get(async || {
                    "vllm:num_requests_waiting{engine=\"0\"} 7\n\
                     vllm:num_requests_running{engine=\"0\"} 3\n\
                     vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n"
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, paths).await;
        });
        let (mut events_socket, mut load_socket) = (PubSocket::new(), PubSocket::new());
        let events = events_socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
        let load = load_socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
        Self { http, events, load, healthy, events_socket, load_socket, seq: 0, server }
    }

    /// This engine as a worker of the configuration.
    pub fn worker(&self, id: &str) -> Value {
        json!({
            "id": id, "model": "m", "endpoint": self.http.to_string(),
            "events": { "endpoint": self.events },
            "load": { "zmq": self.load },
            "health": { "interval_ms": 50 },
        })
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Stores a chain of blocks from the root; engine hashes are made up.
    pub async fn store(&mut self, tokens: &[u32], block_size: u32) {
        let blocks = tokens.len() / block_size as usize;
        let hashes: Vec<u64> = (0..blocks as u64).map(|at| 1000 + at).collect();
        let event = Stored {
            r#type: "BlockStored",
            block_hashes: &hashes,
            parent_block_hash: None,
            token_ids: tokens,
            block_size,
        };
        let batch = rmp_serde::to_vec_named(&(1.5, [event], Option::<u32>::None)).unwrap();
        self.batch(batch).await;
    }

    /// Stores that many blocks of [`tokens`], again and again until worker 0 of
    /// the indexer holds them: a PUB socket drops what comes before its subscriber.
    pub async fn store_until_held(&mut self, indexer: &Indexer, block_size: u32, blocks: u32) {
        for _ in 0..600 {
            self.store(&tokens(blocks * block_size), block_size).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let list = indexer.get("/v1/workers").await.1;
            if list["workers"][0]["ranks"][0]["blocks"] == blocks {
                return;
            }
        }
        panic!("the indexer never heard of the blocks");
    }

    /// Publishes one batch of whatever bytes.
    pub async fn batch(&mut self, payload: Vec<u8>) {
        let mut message = ZmqMessage::from(Vec::<u8>::new());
        message.push_back(self.seq.to_be_bytes().to_vec().into());
        message.push_back(payload.into());
        self.seq += 1;
        self.events_socket.send(message).await.unwrap();
    }

    /// Publishes one load frame of whatever text.
    pub async fn load_frame(&mut self, text: &str) {
        self.load_socket.send(ZmqMessage::from(text.to_owned())).await.unwrap();
    }
}

/// A configuration of one model "m" and these workers.
pub fn config(workers: &[Value]) -> Value {
    json!({ "models": [{ "name": "m", "aliases": ["m-alias"], "adapters": ["m-lora"] }], "workers": workers })
}

/// A worker that nothing follows.
pub fn quiet(id: &str, port: u16) -> Value {
    json!({
        "id": id, "model": "m", "endpoint": format!("127.0.0.1:{port}"),
        "health": { "interval_ms": 0 },
    })
}

/// That many different tokens.
pub fn tokens(number: u32) -> Vec<u32> {
    (100..100 + number).collect()
}

/// A route request for these tokens.
pub fn request(tokens: &[u32], block_size: u32) -> Value {
    let hashes = warmpath_blocks::local_hashes(tokens, block_size as usize, warmpath_blocks::SEED);
    json!({
        "request_id": "r-1", "model": "m", "tokens": tokens.len(),
        "hashes": { block_size.to_string(): hashes },
    })
}
