//! Real engines on this machine, vLLM and TensorRT-LLM, as `launch-workers` starts them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build::{self, Profile};
use crate::indexer::{Engine, EngineKind};
use crate::ports;
use crate::process::Process;

/// Importing torch on a busy machine alone takes a minute; compiling a model
/// for a GPU takes several.
const START_LIMIT: Duration = Duration::from_secs(900);
/// The launcher's own limits, and some more for itself.
const STOP_LIMIT: Duration = Duration::from_secs(40);

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

/// Running servers, and the launcher that keeps them.
pub struct Servers {
    launcher: Process,
    /// Where they listen, by id.
    pub engines: Vec<Engine>,
}

impl Kind {
    /// The command's name, its name for the launcher, and how to get it.
    fn command(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Vllm => {
                ("vllm", "vllm", "install it (pip install vllm) or name it with --vllm PATH")
            }
            Self::Trtllm => (
                "trtllm-serve",
                "trtllm",
                "install it (pip install tensorrt-llm), or use docker compose --profile trtllm up",
            ),
        }
    }

    fn speaks(self) -> EngineKind {
        match self {
            Self::Vllm => EngineKind::Vllm,
            Self::Trtllm => EngineKind::TrtllmZmq,
        }
    }

    /// The engine's command at the given path, else on `PATH`.
    pub fn find(self, given: Option<&Path>) -> Result<PathBuf> {
        let (name, _, remedy) = self.command();
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

impl Servers {
    /// Starts all at once and waits for all; their log is in `folder`.
    pub async fn start(options: &ServerOptions, folder: &Path) -> Result<Self> {
        let log = folder.join("engines.log");
        // What an earlier launcher said is not what this one says.
        let before = std::fs::read(&log).map_or(0, |said| said.len());
        let mut launcher = Process::start("launch-workers", &mut command(options)?, &log)?;
        let ready = async || {
            let said = std::fs::read(&log).unwrap_or_default();
            String::from_utf8_lossy(&said[before.min(said.len())..])
                .contains("all workers are healthy")
        };
        launcher.wait_ready(START_LIMIT, ready).await?;
        let Bases { http, events, replay } = options.bases;
        let engine = |index: u16| Engine {
            http: ports::loopback(http + index),
            events: ports::loopback(events + index),
            replay: ports::loopback(replay + index),
            metrics: None,
            kind: options.kind.speaks(),
        };
        Ok(Self { launcher, engines: (0..options.servers).map(engine).collect() })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Killed, it could not stop the engines.
        self.launcher.stop(STOP_LIMIT);
    }
}

fn command(options: &ServerOptions) -> Result<Command> {
    let (_, engine, _) = options.kind.command();
    let mut command = Command::new(build::indexer(Profile::Dev)?);
    command.args(["launch-workers", "--engine", engine]);
    command.arg("--command").arg(&options.program);
    command.arg("--model").arg(&options.model_path);
    command.args(["--served-model-name", &options.model]);
    for (flag, value) in [
        ("--num-workers", u64::from(options.servers)),
        ("--block-size", options.block_size as u64),
        ("--base-http-port", u64::from(options.bases.http)),
        ("--base-kv-events-port", u64::from(options.bases.events)),
        ("--base-replay-port", u64::from(options.bases.replay)),
        ("--start-timeout", START_LIMIT.as_secs()),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    command.arg("--");
    // A model without weights is one to check tokens and caches with; its
    // numbers are random, its size says nothing about memory.
    if options.kind == Kind::Vllm && !has_weights(&options.model_path) {
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
    Ok(command)
}

fn has_weights(model: &Path) -> bool {
    let weights =
        |path: &Path| path.extension().is_some_and(|end| end == "safetensors" || end == "bin");
    std::fs::read_dir(model).is_ok_and(|files| files.flatten().any(|file| weights(&file.path())))
}
