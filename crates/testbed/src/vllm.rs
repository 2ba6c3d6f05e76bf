//! Real vLLM servers on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::indexer::Engine;
use crate::ports;
use crate::process::Process;

/// Importing torch on a busy machine alone takes a minute.
const START_LIMIT: Duration = Duration::from_secs(300);

/// How the servers are started.
#[derive(Clone, Debug)]
pub struct VllmOptions {
    /// The `vllm` command.
    pub program: PathBuf,
    /// The model's folder.
    pub model_path: PathBuf,
    /// The name that it is served under.
    pub model: String,
    /// Tokens in a block; CPU attention takes multiples of 32 only.
    pub block_size: usize,
    /// How many servers.
    pub servers: usize,
    /// Further arguments of `vllm serve`.
    pub extra: Vec<String>,
}

/// One running server.
pub struct Vllm {
    process: Process,
    /// Where it listens.
    pub engine: Engine,
}

/// `vllm` at the given path, else on `PATH`.
pub fn find(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            bail!("{} is no file; --vllm takes the path of the vllm command", path.display())
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("vllm"))
        .find(|file| file.is_file())
        .context("vllm is not on PATH: install it (pip install vllm) or name it with --vllm PATH")
}

/// Starts the servers one after the other has begun to load, and waits for all.
pub async fn start(options: &VllmOptions, folder: &Path) -> Result<Vec<Vllm>> {
    let mut servers = Vec::new();
    for index in 0..options.servers {
        servers.push(Vllm::spawn(options, index, folder)?);
    }
    for server in &mut servers {
        server.wait_ready().await?;
    }
    Ok(servers)
}

impl Vllm {
    fn spawn(options: &VllmOptions, index: usize, folder: &Path) -> Result<Self> {
        let port = ports::run(3)?;
        let (http, events, replay) = (port, port + 1, port + 2);
        // vLLM binds only endpoints with `*` or `::` in them and connects to
        // any other; this is a loopback address that it binds.
        let bound = |port| format!("tcp://[::ffff:127.0.0.1]:{port}");
        let publisher = json!({
            "enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events",
            "endpoint": bound(events), "replay_endpoint": bound(replay),
        });
        let mut command = Command::new(&options.program);
        command.arg("serve").arg(&options.model_path);
        command.args(["--served-model-name", &options.model, "--host", "127.0.0.1"]);
        command.args([
            "--port",
            &http.to_string(),
            "--block-size",
            &options.block_size.to_string(),
        ]);
        command.args(["--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager"]);
        command.args(["--enable-prefix-caching", "--enable-prompt-tokens-details"]);
        command.args(["--kv-cache-memory-bytes", "64M", "--max-model-len", "4096"]);
        command.args(["--kv-events-config", &publisher.to_string()]).args(&options.extra);
        command.envs([
            ("HF_HUB_OFFLINE", "1"),
            ("TRANSFORMERS_OFFLINE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("DO_NOT_TRACK", "1"),
            ("OMP_NUM_THREADS", "1"),
            ("MKL_NUM_THREADS", "1"),
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("VLLM_HOST_IP", "127.0.0.1"),
            ("VLLM_SERVER_DEV_MODE", "1"),
            ("GLOO_SOCKET_IFNAME", "lo"),
        ]);
        let log = folder.join(format!("vllm-{index}.log"));
        let process = Process::start_group(&format!("vllm {index}"), &mut command, &log)?;
        let engine = Engine {
            http: ports::loopback(http),
            events: ports::loopback(events),
            replay: ports::loopback(replay),
            metrics: None,
        };
        Ok(Self { process, engine })
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/health", self.engine.http);
        let client = reqwest::Client::new();
        let ready = async || client.get(&url).send().await.is_ok_and(|a| a.status().is_success());
        self.process.wait_ready(START_LIMIT, ready).await
    }
}
