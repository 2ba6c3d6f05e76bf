//! Engines, indexer and Envoy wired together.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use warmpath_simworker::{Fleet, Options};

use crate::build::{self, Module, Profile};
use crate::envoy::{Config, Upstream};
use crate::indexer::{Engine, EngineKind, IndexerOptions};
use crate::{Client, Envoy, Indexer, ports};

/// The small model that the repository holds.
pub fn tiny_model() -> PathBuf {
    build::workspace_root().join("tests/models/tiny")
}

/// The header through which the filter names the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `x-gateway-destination-endpoint`; envoy/bootstrap.yaml.
    OverrideHost,
    /// `x-warmpath-cluster`; envoy/bootstrap-cluster-header.yaml.
    ClusterHeader,
}

/// How the gateway in front of the engines is built.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The bootstrap to use.
    pub destination: Destination,
    /// Fields of the filter's configuration to set.
    pub filter: Value,
    /// The indexer's configuration.
    pub indexer: IndexerOptions,
    /// Whether Envoy reaches the indexer by TCP instead of its Unix socket.
    pub indexer_tcp: bool,
    /// Envoy's listener port; 0 takes a free one.
    pub http_port: u16,
    /// Envoy's worker threads.
    pub concurrency: u32,
    /// The filter's module.
    pub module: Module,
}

impl GatewayOptions {
    /// The defaults for a model: overrides and report headers on, as tests need.
    pub fn new(model: &str, model_path: &Path) -> Self {
        Self {
            destination: Destination::OverrideHost,
            // The machines that run tests are slow and shared; a decision that
            // misses its deadline is a test of its own.
            filter: json!({"overrides": true, "report": true, "deadline_ms": 2000,
                "manifest_refresh_ms": 100}),
            indexer: IndexerOptions {
                model: model.to_owned(),
                model_path: Some(model_path.to_owned()),
                adapters: Vec::new(),
                block_size: None,
                ranks: 1,
                policy: None,
                is_following: true,
                settings: Value::Null,
                port: None,
                profile: Profile::Dev,
            },
            indexer_tcp: false,
            http_port: 0,
            concurrency: 1,
            module: Module::Simd,
        }
    }

    /// Sets one field of the filter's configuration.
    pub fn filter(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.filter[field] = value.into();
        self
    }

    /// The bootstrap with everything in it but the engines and the indexer.
    pub fn bootstrap(&self) -> Result<Config> {
        let mut config = Config::read(match self.destination {
            Destination::OverrideHost => "envoy/bootstrap.yaml",
            Destination::ClusterHeader => "envoy/bootstrap-cluster-header.yaml",
        })?;
        config.listen(self.http_port, 0)?.module(&build::filter_wasm(self.module)?)?;
        let fields = self.filter.as_object().context("the filter's fields are no object")?.clone();
        config.settings(|settings| {
            for (field, value) in fields {
                settings[field] = value;
            }
        })?;
        Ok(config)
    }
}

/// Indexer and Envoy in front of some engines.
pub struct Gateway {
    /// Envoy, listening.
    pub envoy: Envoy,
    /// The indexer, ready.
    pub indexer: Indexer,
    /// The served model's name.
    pub model: String,
    folder: PathBuf,
}

impl Gateway {
    /// Starts both, their files in `folder`; returns once the filter decides.
    pub async fn start(
        options: &GatewayOptions,
        engines: &[Engine],
        folder: &Path,
    ) -> Result<Self> {
        Self::start_edited(options, engines, folder, |_| Ok(())).await
    }

    /// The same with a last edit of Envoy's configuration.
    pub async fn start_edited(
        options: &GatewayOptions,
        engines: &[Engine],
        folder: &Path,
        edit: impl FnOnce(&mut Config) -> Result<()>,
    ) -> Result<Self> {
        let indexer = Indexer::start(&options.indexer, engines, folder).await?;
        let mut config = options.bootstrap()?;
        let upstream = if options.indexer_tcp {
            Upstream::Tcp(indexer.api)
        } else {
            Upstream::Unix(indexer.socket.clone())
        };
        let addresses: Vec<_> = engines.iter().map(|engine| engine.http).collect();
        config.workers(&addresses)?.indexer(&upstream)?;
        edit(&mut config)?;
        let envoy = Envoy::start(config, folder, options.concurrency).await?;
        let model = options.indexer.model.clone();
        Ok(Self { envoy, indexer, model, folder: folder.to_owned() })
    }

    /// An HTTP/1.1 client of Envoy.
    pub fn client(&self) -> Client {
        Client::new(&self.envoy.url())
    }

    /// Where the logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sends one-token requests until the filter decides in every Envoy worker
    /// thread: it has the manifest, the tokenizer and knows the block size.
    /// Returns how many it took.
    pub async fn wait_deciding(&self) -> Result<usize> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut in_a_row = 0;
        let mut sent = 0;
        let mut last = String::new();
        while in_a_row < 3 {
            if Instant::now() >= end {
                bail!("the filter does not decide: {last}\n{}", self.envoy.log());
            }
            // A connection each, so that Envoy's worker threads take turns.
            let body = json!({"model": self.model, "prompt": "ready", "max_tokens": 1});
            let reply = self.client().completion(&body).await?;
            sent += 1;
            let reason = reply.header("x-warmpath-reason");
            last = format!("{} {reason:?} {}", reply.status, reply.text);
            if reason.is_some_and(|reason| !reason.starts_with("fallback")) {
                in_a_row += 1;
            } else {
                in_a_row = 0;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(sent)
    }

    /// Waits until `vms` VMs of the filter have the model's tokenizer.
    pub async fn wait_loaded(&self, vms: u32) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let metrics = self.envoy.metrics().await?;
            let ready = metrics.iter().find(|(name, _)| name.contains("warmpath_models_ready"));
            if ready.is_some_and(|(_, count)| *count >= f64::from(vms)) {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("{ready:?} of {vms} VMs are ready\n{}", self.envoy.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A simulated fleet with a gateway in front.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The engines.
    pub sim: Options,
    /// What stands in front of them.
    pub gateway: GatewayOptions,
}

impl Default for StackOptions {
    /// Two instant workers on free ports.
    fn default() -> Self {
        let sim = Options {
            num_workers: 2,
            served_model_name: Some("tiny".to_owned()),
            prefill_tokens_per_second: 0.0,
            decode_ms_per_token: 0.0,
            ..Options::new(tiny_model()).on_free_ports()
        };
        Self { sim, gateway: GatewayOptions::new("tiny", &tiny_model()) }
    }
}

/// A simulated fleet, the indexer and Envoy, all stopped when dropped.
pub struct Stack {
    /// Indexer and Envoy; first, so that they end before the engines.
    pub gateway: Gateway,
    /// The engines.
    pub fleet: Fleet,
    // Last, so that nothing writes below it any more.
    _folder: TempDir,
}

impl Stack {
    /// Starts everything and waits until the filter decides.
    pub async fn start(options: StackOptions) -> Result<Self> {
        let stack = Self::start_edited(options, |_| Ok(())).await?;
        stack.gateway.wait_deciding().await?;
        Ok(stack)
    }

    /// Starts everything with a last edit of Envoy's configuration; does not
    /// wait for decisions.
    pub async fn start_edited(
        mut options: StackOptions,
        edit: impl FnOnce(&mut Config) -> Result<()>,
    ) -> Result<Self> {
        let folder = TempDir::new().context("can not make a temporary folder")?;
        options.gateway.indexer.ranks = options.sim.ranks;
        options.gateway.indexer.adapters.clone_from(&options.sim.lora);
        options.gateway.indexer.block_size.get_or_insert(options.sim.block_size);
        let fleet = Fleet::start(with_ports(options.sim)?).await?;
        let engines = engines(&fleet);
        let gateway =
            Gateway::start_edited(&options.gateway, &engines, folder.path(), edit).await?;
        Ok(Self { gateway, fleet, _folder: folder })
    }
}

/// Replaces free ports by ones that stay free while a worker is dead.
pub fn with_ports(mut options: Options) -> Result<Options> {
    let workers = u16::try_from(options.num_workers)?;
    let publishers = workers * u16::try_from(options.ranks)?;
    for (base, count) in [
        (&mut options.base_http_port, workers),
        (&mut options.base_metrics_port, workers),
        (&mut options.base_kv_events_port, publishers),
        (&mut options.base_replay_port, publishers),
    ] {
        if *base == 0 {
            *base = ports::run(count)?;
        }
    }
    Ok(options)
}

/// Whether load frames are that engine's way of telling its load.
fn frames(kind: EngineKind) -> bool {
    matches!(kind, EngineKind::Vllm | EngineKind::TrtllmSeed)
}

/// The addresses of a simulated fleet.
pub fn engines(fleet: &Fleet) -> Vec<Engine> {
    let engine = |worker: &warmpath_simworker::Worker| Engine {
        http: worker.http,
        events: worker.events,
        replay: worker.replay,
        metrics: frames(worker.kind()).then_some(worker.metrics),
        kind: worker.kind(),
    };
    // The others tell their load on a page, which frames would hide.
    fleet.workers().iter().map(engine).collect()
}
