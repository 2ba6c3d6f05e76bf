//! Real engines on this machine: vLLM and TensorRT-LLM.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::indexer::Engine;
use crate::ports;
use crate::process::Process;

/// Importing torch on a busy machine alone takes a minute; compiling a model
/// for a GPU takes several.
const START_LIMIT: Duration = Duration::from_secs(900);

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `vllm serve`; runs without a GPU too.
    Vllm,
    /// `trtllm-serve`; needs a GPU for each server.
    Trtllm,
}

/// The first server's ports; server i's are i further.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// OpenAI HTTP.
    pub http: u16,
    /// KV events.
    pub events: u16,
    /// Replay of KV events.
    pub replay: u16,
}

/// How the servers are started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The engine.
    pub kind: Kind,
    /// Its command.
    pub program: PathBuf,
    /// The model's folder.
    pub model_path: PathBuf,
    /// The name that it is served under.
    pub model: String,
    /// Tokens in a block; vLLM on CPU takes multiples of 32 only.
    pub block_size: usize,
    /// How many servers.
    pub servers: u16,
    /// Where they listen.
    pub bases: Bases,
    /// More arguments for the command; they win over those that are made here.
    pub more: Vec<String>,
}

/// One running server.
pub struct Server {
    process: Process,
    /// Where it listens.
    pub engine: Engine,
}

impl Kind {
    /// The command's name, and how to get it.
    fn command(self) -> (&'static str, &'static str) {
        match self {
            Self::Vllm => ("vllm", "install it (pip install vllm) or name it with --vllm PATH"),
            Self::Trtllm => (
                "trtllm-serve",
                "install it (pip install tensorrt-llm), or use docker compose --profile trtllm up",
            ),
        }
    }

    /// The engine's command at the given path, else on `PATH`.
    pub fn find(self, given: Option<&Path>) -> Result<PathBuf> {
        let (name, remedy) = self.command();
        if let Some(path) = given {
            if !path.is_file() {
                bail!("{} is no file; give the path of the {name} command", path.display());
            }
            return Ok(path.to_owned());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
            .with_context(|| format!("{name} is not on PATH: {remedy}"))
    }
}

impl Bases {
    /// Free ports for so many servers.
    pub fn free(servers: u16) -> Result<Self> {
        Ok(Self {
            http: ports::run(servers)?,
            events: ports::run(servers)?,
            replay: ports::run(servers)?,
        })
    }
}

/// Starts all servers at once and waits for all; their logs are in `folder`.
pub async fn start(options: &ServerOptions, folder: &Path) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for index in 0..options.servers {
        servers.push(Server::spawn(options, index, folder)?);
    }
    for server in &mut servers {
        server.wait_ready().await?;
    }
    Ok(servers)
}

impl Server {
    fn spawn(options: &ServerOptions, index: u16, folder: &Path) -> Result<Self> {
        let Bases { http, events, replay } = options.bases;
        let engine = Engine {
            http: ports::loopback(http + index),
            events: ports::loopback(events + index),
            replay: ports::loopback(replay + index),
            metrics: None,
        };
        let (name, _) = options.kind.command();
        let name = format!("{name}-{index}");
        let mut command = match options.kind {
            Kind::Vllm => vllm(options, &engine),
            Kind::Trtllm => trtllm(options, &engine, &folder.join(format!("{name}.yaml")))?,
        };
        // One GPU each, where there are any.
        if std::env::var_os("CUDA_VISIBLE_DEVICES").is_none() {
            command.env("CUDA_VISIBLE_DEVICES", index.to_string());
        }
        let log = folder.join(format!("{name}.log"));
        let process = Process::start_group(&name, &mut command, &log)?;
        Ok(Self { process, engine })
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/health", self.engine.http);
        let client = reqwest::Client::new();
        let ready = async || client.get(&url).send().await.is_ok_and(|a| a.status().is_success());
        self.process.wait_ready(START_LIMIT, ready).await
    }
}

fn vllm(options: &ServerOptions, engine: &Engine) -> Command {
    // vLLM binds only endpoints with `*` or `::` in them and connects to any
    // other; this is a loopback address that it binds.
    let bound = |port| format!("tcp://[::ffff:127.0.0.1]:{port}");
    let publisher = json!({
        "enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events",
        "endpoint": bound(engine.events.port()), "replay_endpoint": bound(engine.replay.port()),
    });
    let mut command = Command::new(&options.program);
    command.arg("serve").arg(&options.model_path);
    command.args(["--served-model-name", &options.model, "--host", "127.0.0.1"]);
    command.args(["--port", &engine.http.port().to_string()]);
    command.args(["--block-size", &options.block_size.to_string()]);
    command.args(["--enable-prefix-caching", "--enable-prompt-tokens-details"]);
    command.args(["--kv-events-config", &publisher.to_string()]);
    // A model without weights is one to check tokens and caches with; its
    // numbers are random, its size says nothing about memory.
    if !has_weights(&options.model_path) {
        command.args(["--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager"]);
        command.args(["--kv-cache-memory-bytes", "64M", "--max-model-len", "4096"]);
    }
    command.args(&options.more);
    command.envs([
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("MKL_NUM_THREADS", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("VLLM_HOST_IP", "127.0.0.1"),
        // For POST /reset_prefix_cache.
        ("VLLM_SERVER_DEV_MODE", "1"),
        ("GLOO_SOCKET_IFNAME", "lo"),
    ]);
    command
}

fn has_weights(model: &Path) -> bool {
    let weights =
        |path: &Path| path.extension().is_some_and(|end| end == "safetensors" || end == "bin");
    std::fs::read_dir(model).is_ok_and(|files| files.flatten().any(|file| weights(&file.path())))
}

/// The options of docker-compose.yml's profile trtllm.
fn trtllm(options: &ServerOptions, engine: &Engine, file: &Path) -> Result<Command> {
    let settings = json!({
        "kv_cache_config": {
            "enable_block_reuse": true, "enable_partial_reuse": false,
            "tokens_per_block": options.block_size, "event_buffer_max_size": 16384,
        },
        "kv_events_config": {
            "enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events",
            "endpoint": format!("tcp://{}", engine.events),
            "replay_endpoint": format!("tcp://{}", engine.replay),
            "buffer_steps": 10000, "hwm": 100_000,
        },
        "enable_iter_perf_stats": true, "return_perf_metrics": true,
    });
    std::fs::write(file, settings.to_string())
        .with_context(|| format!("can not write {}", file.display()))?;
    let mut command = Command::new(&options.program);
    command.arg(&options.model_path);
    command.args(["--served_model_name", &options.model, "--host", "127.0.0.1"]);
    command.args(["--port", &engine.http.port().to_string()]);
    command.arg("--extra_llm_api_options").arg(file);
    command.args(&options.more);
    Ok(command)
}
