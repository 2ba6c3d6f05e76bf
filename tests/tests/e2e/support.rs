//! What the tests share.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use warmpath_testbed::client::{Client, Reply};
use warmpath_testbed::envoy::Config;
use warmpath_testbed::indexer::{Engine, EngineKind};
use warmpath_testbed::ports;
use warmpath_testbed::stack::{Gateway, GatewayOptions, tiny_model};

/// A prompt of some hundred tokens that no other test sends.
pub(crate) fn long_text(topic: &str) -> String {
    format!("Tell me about {topic}, in detail and in order. ").repeat(30)
}

/// A chat request about that.
pub(crate) fn chat(topic: &str) -> Value {
    json!({
        "model": "tiny", "max_tokens": 2, "temperature": 0,
        "messages": [{"role": "user", "content": long_text(topic)}],
    })
}

/// The worker and the reason that a response reports.
pub(crate) fn routed(reply: &Reply) -> (&str, &str) {
    let header = |name| reply.header(name).unwrap_or("none");
    (header("x-warmpath-worker"), header("x-warmpath-reason"))
}

/// Asks until `state` holds; the states asked for always come, unless
/// something is broken.
pub(crate) async fn eventually(
    what: &str,
    mut state: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !state().await? {
        if Instant::now() >= end {
            bail!("never came: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until the index knows that `worker` holds most of a chat prompt. Asks
/// by requests pinned to that worker, so that no other comes to hold it too.
pub(crate) async fn until_held(client: &Client, body: &Value, worker: &str) -> Result<()> {
    eventually("the prompt's blocks in the index", async || {
        let pin = [("x-warmpath-worker", worker)];
        let reply = client.send("/v1/chat/completions", body, &pin).await?;
        let overlap = reply.header("x-warmpath-overlap").unwrap_or("0/0");
        let number = |text: &str| text.parse::<u32>().unwrap_or_default();
        let (held, all) = overlap.split_once('/').unwrap_or_default();
        Ok(number(held) > 0 && 2 * number(held) > number(all))
    })
    .await
}

/// Sums Envoy's counters of requests whose name holds all these parts.
pub(crate) async fn requests_counted(gateway: &Gateway, parts: &[&str]) -> Result<f64> {
    let metrics = gateway.envoy.metrics().await?;
    let named = |name: &String| {
        name.contains("warmpath_requests_total") && parts.iter().all(|part| name.contains(part))
    };
    Ok(metrics.iter().filter(|(name, _)| named(name)).map(|(_, value)| value).sum())
}

/// What the indexer asks a worker for.
const INDEXERS: [&str; 2] = ["/health", "/metrics"];

/// A request as an upstream received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An upstream that keeps what it receives and answers like an engine.
pub(crate) struct Capture {
    pub(crate) address: SocketAddr,
    kept: Arc<Kept>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    received: Mutex<Vec<Received>>,
    refuses: AtomicBool,
}

impl Capture {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let kept = Arc::new(Kept::default());
        let shared = kept.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A peer that goes away is none of the server's concern.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, kept, task })
    }

    /// Whether it answers 503 to everything but the indexer's own questions.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.kept.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Requests for anything but the indexer's own questions.
    pub(crate) fn received(&self) -> Vec<Received> {
        let all = self.kept.received.lock().unwrap().clone();
        all.into_iter().filter(|one| !INDEXERS.contains(&one.path.as_str())).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    kept: Arc<Kept>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let asked_by_indexer = INDEXERS.contains(&path.as_str());
    if let Ok(body) = body.collect().await {
        let received = Received { path, headers: head.headers, body: body.to_bytes() };
        kept.received.lock().unwrap().push(received);
    }
    let refused = kept.refuses.load(Ordering::Relaxed) && !asked_by_indexer;
    let text = json!({"choices": [{"message": {"content": "ok"}}]}).to_string();
    let response = Response::builder()
        .status(if refused { 503 } else { 200 })
        .header("content-type", "application/json");
    Ok(response.body(Full::from(text)).expect("a valid response"))
}

/// A gateway in front of capturing upstreams.
pub(crate) struct Captured {
    pub(crate) gateway: Gateway,
    pub(crate) upstreams: Vec<Capture>,
    _folder: TempDir,
}

impl Captured {
    /// Starts `count` upstreams and the gateway; waits until it decides.
    pub(crate) async fn start(count: usize, options: GatewayOptions) -> Result<Self> {
        let captured = Self::start_edited(count, options, |_| Ok(())).await?;
        captured.gateway.wait_deciding().await?;
        Ok(captured)
    }

    /// The same with an edit of Envoy's configuration, without waiting.
    pub(crate) async fn start_edited(
        count: usize,
        mut options: GatewayOptions,
        edit: impl FnOnce(&mut Config) -> Result<()>,
    ) -> Result<Self> {
        let mut upstreams = Vec::new();
        let mut engines = Vec::new();
        for _ in 0..count {
            let upstream = Capture::start().await?;
            // It publishes no events: nothing listens there.
            let silent = ports::loopback(ports::free()?);
            engines.push(Engine {
                http: upstream.address,
                events: silent,
                replay: silent,
                metrics: None,
                kind: EngineKind::Vllm,
            });
            upstreams.push(upstream);
        }
        options.indexer.block_size = Some(16);
        let folder = TempDir::new()?;
        let gateway = Gateway::start_edited(&options, &engines, folder.path(), edit).await?;
        Ok(Self { gateway, upstreams, _folder: folder })
    }

    /// Everything that the upstreams received for `path`.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        let all = self.upstreams.iter().flat_map(Capture::received);
        all.filter(|one| one.path == path).collect()
    }
}

/// A gateway's options for the small model.
pub(crate) fn gateway() -> GatewayOptions {
    GatewayOptions::new("tiny", &tiny_model())
}

/// Counts values.
pub(crate) fn tally<T: std::hash::Hash + Eq>(
    values: impl IntoIterator<Item = T>,
) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}
