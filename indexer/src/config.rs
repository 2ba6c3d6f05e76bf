/*!
What the indexer is told: which models and workers there are, where it listens.

A YAML file, environment variables, command-line flags and `POST /v1/workers`
all end in one JSON tree that one reader turns into these types. Deriving serde's
`Deserialize` was rejected: it stops at the first mistake, and an operator
should learn of all of them at once. The reader walks the tree, notes every
unknown field, wrong type and bad value with its path, and only then fails.

Precedence, strongest first: flags, environment, file, defaults. Workers that
`--num-workers` makes are the exception: a worker of the file with the same id
wins over the made one, field by field.
*/

mod check;
mod dynamo;
mod fields;
mod flags;
mod policies;
mod read;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use dynamo::DynamoFlags;
pub use flags::{Flags, LogFormat};
use serde_json::Value;

use crate::book::BookConfig;
use crate::policy;
use crate::predict::PredictConfig;
use crate::saturation::SaturationConfig;

/// Everything that the indexer is told; each field names its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address of the API, `ip:port`. Default `127.0.0.1:7000`.
    pub listen: SocketAddr,
    /// Path of a Unix socket that serves the same API. Default none.
    pub unix_socket: Option<PathBuf>,
    /// Address of `/healthz`, `/readyz` and `/metrics`. Default `127.0.0.1:7001`.
    pub admin: SocketAddr,
    /// Which policy decides, and the parameters of all: fields `policy`,
    /// `policy_seed` and `policies`.
    pub policy: policy::Settings,
    /// How the in-flight book is kept.
    pub book: BookConfig,
    /// Age in milliseconds past which a load report counts as unknown. Default 10000.
    pub load_stale_ms: u64,
    /// How many decisions are kept for `/v1/decisions`. Default 1024.
    pub decisions: usize,
    /// Largest request body that the API reads, in bytes. Default 16777216.
    pub max_body_bytes: usize,
    /// Bytes of texts that are read and tokenized at a time. Default 67108864.
    pub max_text_bytes: usize,
    /// Whether workers' KV events are followed; else all are predicted. Default true.
    pub kv_events: bool,
    /// What is predicted of workers. Default `{}`, that is, with the defaults below.
    pub predict: PredictConfig,
    /// When workers are busy, and what then. Default `{}`: never.
    pub saturation: SaturationConfig,
    /// The prefix index. Default `{}`, that is, with the default below.
    pub index: IndexConfig,
    /// The models; at least one where there are workers. Default none.
    pub models: Vec<ModelConfig>,
    /// The workers at start; more may come and go over the API. Default none.
    pub workers: Vec<WorkerConfig>,
}

/// The prefix index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// Most heap that it may take, in bytes; near it the blocks that no request asked
    /// for lately are forgotten. 0 for no ceiling. Default 4294967296.
    pub max_bytes: u64,
    /// File that keeps it over a restart of the indexer. Default none.
    pub snapshot: Option<PathBuf>,
    /// Batches of events after which the file is written anew; it is at the end, too.
    /// Default 10000.
    pub snapshot_threshold: u64,
    /// Whether what the file has at the start is left unread. Default false.
    pub reset: bool,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self { max_bytes: 4 << 30, snapshot: None, snapshot_threshold: 10_000, reset: false }
    }
}

/// One base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// The served name. Required.
    pub name: String,
    /// Folder with `tokenizer.json`, its configuration and template. Default
    /// none: nobody can then tokenize for the model, and Envoy balances it.
    pub path: Option<PathBuf>,
    /// Other names that the workers answer to. Default none.
    pub aliases: Vec<String>,
    /// LoRA adapters, each a name that clients send as `model`. Default none.
    pub adapters: Vec<String>,
    /// Block size in tokens; events of another are rejected. Default none: each
    /// worker's first event teaches it.
    pub block_size: Option<u32>,
}

/// One engine endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerConfig {
    /// Its id. Required.
    pub id: String,
    /// Name of the model that it serves. Required unless there is only one.
    pub model: String,
    /// `ip:port` exactly as Envoy's cluster spells it; a host name serves only
    /// the `cluster_header` destination. Required.
    pub endpoint: String,
    /// Its own Envoy cluster. Default `worker-{id}`.
    pub cluster: String,
    /// Data-parallel ranks; rank r uses port + r for events and replay. Default 1.
    pub ranks: u32,
    /// Where its KV events come from. Default none: what was routed to it counts as held
    /// for a while, see [`PredictConfig`].
    pub events: Option<EventsConfig>,
    /// Blocks of each rank's KV cache. Default none: its metrics page says it.
    pub total_kv_blocks: Option<u64>,
    /// Most tokens of one step of its engine, for `active_prefill_tokens_threshold_frac`.
    /// Default none.
    pub max_num_batched_tokens: Option<u64>,
    /// Where its load comes from. Default none: its load counts as what was
    /// routed to it lately.
    pub load: LoadConfig,
    /// How it is probed. Default `{}`, that is, with the defaults below.
    pub health: HealthConfig,
}

/// One worker's KV events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// ZMQ endpoint of rank 0, `tcp://host:port`; or where TensorRT-LLM is asked for
    /// them, `http://host:port/kv_cache_events`. Required.
    pub endpoint: String,
    /// ZMQ endpoint of rank 0's replay socket. Default none: what is lost stays lost.
    pub replay: Option<String>,
    /// Whether the indexer binds and the engine connects. Default false.
    pub bind: bool,
    /// Topic prefix to subscribe to. Default empty: everything.
    pub topic: String,
    /// Milliseconds between two questions, where the engine is asked. Default 100.
    pub interval_ms: u64,
}

impl EventsConfig {
    /// Whether the engine is asked for its events, instead of publishing them.
    pub fn is_polled(&self) -> bool {
        self.endpoint.starts_with("http://")
    }
}

/// One worker's load reports; of two sources the last report wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadConfig {
    /// ZMQ endpoint that publishes `{"num_waiting_reqs":…,"kv_cache_usage":…}`. Default none.
    pub zmq: Option<String>,
    /// URL of the engine's metrics page: a Prometheus page of vLLM, SGLang or
    /// TensorRT-LLM, or the list of iterations that `trtllm-serve` has instead. Default none.
    pub prometheus: Option<String>,
    /// Milliseconds between two reads of the page. Default 500.
    pub interval_ms: u64,
}

/// One worker's health probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Path of the probe at the worker's endpoint; any 2xx is healthy. Default `/health`.
    pub path: String,
    /// Milliseconds between two probes; 0 never probes. Default 1000.
    pub interval_ms: u64,
    /// Milliseconds that a probe or scrape may take; an engine in the middle of a
    /// long prompt is slow, not dead. Default 5000.
    pub timeout_ms: u64,
}

impl HealthConfig {
    /// Time between two probes, or none where it is never probed.
    pub fn interval(&self) -> Option<Duration> {
        (self.interval_ms > 0).then(|| Duration::from_millis(self.interval_ms))
    }
}

/// Every mistake of a configuration, in the order of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors =
            if self.0.len() == 1 { "1 error" } else { &format!("{} errors", self.0.len()) };
        write!(formatter, "the configuration has {errors}")?;
        self.0.iter().try_for_each(|error| write!(formatter, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the file that the flags name, if any, and lays the flags over it.
    pub fn load(flags: &Flags) -> Result<Self, ConfigErrors> {
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => Value::Object(serde_json::Map::new()),
        };
        Self::from_tree(&flags.over(file))
    }

    /// Reads a configuration from the text of a YAML file.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigErrors> {
        Self::from_tree(&parse(text, "the configuration")?)
    }

    /// Reads and checks a whole tree.
    pub fn from_tree(tree: &Value) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let config = read::config(tree, &mut errors);
        check::config(&config, &mut errors);
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }
}

impl policy::Settings {
    /// Reads and checks what the configuration says of policies, as the API takes it.
    pub fn from_tree(tree: &Value) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut fields = fields::Fields::of(tree, "", &mut errors);
        let settings = policies::settings(&mut fields);
        fields.finish();
        check::policy(&settings, &mut errors);
        if errors.is_empty() { Ok(settings) } else { Err(ConfigErrors(errors)) }
    }
}

impl WorkerConfig {
    /// Reads and checks one worker, as the API takes it.
    ///
    /// `models` are the names that it may serve.
    pub fn from_tree(tree: &Value, models: &[&str]) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let worker = read::worker(tree, "worker", models, &mut errors);
        check::worker(&worker, "worker", models, &mut errors);
        if errors.is_empty() { Ok(worker) } else { Err(ConfigErrors(errors)) }
    }
}

fn read_file(path: &Path) -> Result<Value, ConfigErrors> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigErrors(vec![format!("{}: can not be read: {error}", path.display())])
    })?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, name: &str) -> Result<Value, ConfigErrors> {
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_saphyr::from_str(text)
        .map_err(|error| ConfigErrors(vec![format!("{name}: not YAML: {error}")]))
}

#[cfg(test)]
mod tests;
