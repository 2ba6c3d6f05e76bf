//! The indexer as a child process that can be killed and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use warmpath_simworker::EngineKind;

use crate::build::{self, Profile};
use crate::ports;
use crate::process::Process;

/// Loading a tokenizer and checking its table takes a while on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// One engine as the indexer and Envoy are told of it.
#[derive(Clone, Debug)]
pub struct Engine {
    /// OpenAI HTTP.
    pub http: SocketAddr,
    /// KV events of rank 0.
    pub events: SocketAddr,
    /// Replay of rank 0.
    pub replay: SocketAddr,
    /// Load metrics frames, where it publishes them.
    pub metrics: Option<SocketAddr>,
    /// What it speaks.
    pub kind: EngineKind,
}

impl Engine {
    /// Its events as the indexer is told of them.
    fn events(&self) -> Value {
        if !self.kind.publishes() {
            return json!({"endpoint": format!("http://{}/kv_cache_events", self.http)});
        }
        let mut events = json!({"endpoint": format!("tcp://{}", self.events)});
        if self.kind.replays() {
            events["replay"] = json!(format!("tcp://{}", self.replay));
        }
        events
    }

    /// Its load likewise. A publisher beside an engine has no page.
    fn load(&self) -> Value {
        let mut load = json!({"interval_ms": 200});
        if self.kind != EngineKind::TrtllmSeed {
            load["prometheus"] = json!(format!("http://{}/metrics", self.http));
        }
        if let Some(metrics) = self.metrics {
            load["zmq"] = json!(format!("tcp://{metrics}"));
        }
        load
    }
}

/// What the indexer is configured with.
#[derive(Clone, Debug)]
pub struct IndexerOptions {
    /// The served model's name.
    pub model: String,
    /// Its folder; without one there is no tokenizer, and so no overlap.
    pub model_path: Option<PathBuf>,
    /// LoRA adapters that the workers serve.
    pub adapters: Vec<String>,
    /// Block size in tokens; learned from the events where absent.
    pub block_size: Option<usize>,
    /// Data-parallel ranks of each worker.
    pub ranks: u32,
    /// The policy's name; the indexer's default where absent.
    pub policy: Option<String>,
    /// Whether the engines publish KV events.
    pub is_following: bool,
    /// Other fields of its configuration.
    pub settings: Value,
    /// TCP port of the API; a free one where absent.
    pub port: Option<u16>,
    /// The program's build.
    pub profile: Profile,
}

/// A running indexer.
pub struct Indexer {
    process: Process,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// Its API over TCP.
    pub api: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// Its API over a Unix socket.
    pub socket: PathBuf,
    client: reqwest::Client,
}

impl Indexer {
    /// Starts the indexer for these engines, its files in `folder`.
    pub async fn start(
        options: &IndexerOptions,
        engines: &[Engine],
        folder: &Path,
    ) -> Result<Self> {
        let port = options.port.map_or_else(|| ports::run(2), Ok)?;
        let (api, admin) = (ports::loopback(port), ports::loopback(port + 1));
        let socket = folder.join("indexer.sock");
        let config = folder.join("indexer.yaml");
        let text = configuration(options, engines, api, admin, &socket).to_string();
        std::fs::write(&config, text)
            .with_context(|| format!("can not write {}", config.display()))?;
        let binary = build::indexer(options.profile)?;
        let log = folder.join("indexer.log");
        let process = spawn(&binary, &config, &log)?;
        let client = reqwest::Client::new();
        let mut indexer = Self { process, binary, config, log, api, admin, socket, client };
        indexer.wait_ready().await?;
        Ok(indexer)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it as an operator would, and waits for its end.
    pub fn stop(&mut self, limit: Duration) {
        self.process.stop(limit);
    }

    /// Starts it again with the same configuration and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.binary, &self.config, &self.log)?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/readyz", self.admin);
        let client = self.client.clone();
        let ready = async || client.get(&url).send().await.is_ok_and(|a| a.status().is_success());
        self.process.wait_ready(START_LIMIT, ready).await
    }

    /// GET of an API path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.client.get(format!("http://{}{path}", self.api)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// POST to an API path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("http://{}{path}", self.api);
        let answer = self.client.post(url).json(body).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// The recorded decision for a request.
    pub async fn decision(&self, request_id: &str) -> Result<Value> {
        self.get(&format!("/v1/decisions/{request_id}")).await
    }
}

fn spawn(binary: &Path, config: &Path, log: &Path) -> Result<Process> {
    Process::start("indexer", Command::new(binary).arg("--config").arg(config), log)
}

fn configuration(
    options: &IndexerOptions,
    engines: &[Engine],
    api: SocketAddr,
    admin: SocketAddr,
    socket: &Path,
) -> Value {
    let workers: Vec<Value> = engines
        .iter()
        .enumerate()
        .map(|(index, engine)| {
            let mut worker = json!({
                "id": index.to_string(),
                "model": options.model,
                "endpoint": engine.http.to_string(),
                "ranks": options.ranks,
                "load": engine.load(),
                "health": {"path": "/health", "interval_ms": 200},
            });
            if options.is_following {
                worker["events"] = engine.events();
            }
            worker
        })
        .collect();
    let mut model = json!({"name": options.model, "adapters": options.adapters});
    if let Some(path) = &options.model_path {
        model["path"] = json!(path);
    }
    if let Some(size) = options.block_size {
        model["block_size"] = json!(size);
    }
    let mut config = json!({
        "listen": api.to_string(), "admin": admin.to_string(), "unix_socket": socket,
        "models": [model], "workers": workers,
    });
    if let Some(policy) = &options.policy {
        config["policy"] = json!(policy);
    }
    for (field, value) in options.settings.as_object().into_iter().flatten() {
        config[field] = value.clone();
    }
    config
}
