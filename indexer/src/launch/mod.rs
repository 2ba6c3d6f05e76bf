/*!
`launch-workers`: real engines on this host, as the indexer expects them.

Each worker is the engine's own server, `vllm serve` or `trtllm-serve`, started with
the flags that make it publish KV events, on the seeds' ports: HTTP 8100 + i, events
5557 + i, replay 5757 + i. Once all are healthy the list of workers goes to stdout in
the form that `--config` takes. Their logs go to stderr with the worker before each
line. A worker that ends is restarted, up to a number of times; a signal stops all.

Every worker is a process group, because engines are several processes: a crashed
server leaves others behind that hold the GPU. Rejected: engines inside this process,
as the seeds' Python workers are (one engine's crash would end all), and a service
manager's job (restarting whole hosts' worth of services, sockets, accounts): for a
fleet beyond one host use one, the flags are those that `--dry-run` prints.
*/

mod engine;
mod worker;

use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use engine::Spec;
use worker::Worker;

/// Which engine serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// vLLM, by its command vllm.
    Vllm,
    /// TensorRT-LLM, by its command trtllm-serve.
    Trtllm,
}

/// Arguments of `launch-workers`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Model: a folder, or a name that the engine knows where to get
    #[arg(long, env = "WARMPATH_MODEL_PATH", value_name = "DIR|NAME")]
    pub model: String,
    /// Name under which it is served [default: the folder's, or the model's own]
    #[arg(long, env = "WARMPATH_SERVED_MODEL_NAME", value_name = "NAME")]
    pub served_model_name: Option<String>,
    /// The engine
    #[arg(long, value_enum, default_value_t = Kind::Vllm)]
    pub engine: Kind,
    /// The engine's command [default: vllm or trtllm-serve, on PATH]
    #[arg(long, value_name = "PATH")]
    pub command: Option<PathBuf>,
    /// Number of workers; worker i uses the base ports + i
    #[arg(long, env = "WARMPATH_NUM_WORKERS", value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    pub num_workers: u16,
    /// Tokens in a KV block [default: the engine's own; 32 for trtllm]
    #[arg(long, env = "WARMPATH_BLOCK_SIZE", value_name = "TOKENS")]
    pub block_size: Option<u32>,
    /// Address that the workers listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// First port of the workers' OpenAI HTTP servers
    #[arg(long, env = "WARMPATH_BASE_HTTP_PORT", value_name = "PORT", default_value_t = 8100)]
    pub base_http_port: u16,
    /// First port of the workers' KV events (ZMQ PUB)
    #[arg(long, env = "WARMPATH_BASE_KV_EVENTS_PORT", value_name = "PORT", default_value_t = 5557)]
    pub base_kv_events_port: u16,
    /// First port of the workers' replay sockets [default: the first event port + 200]
    #[arg(long, env = "WARMPATH_BASE_REPLAY_PORT", value_name = "PORT")]
    pub base_replay_port: Option<u16>,
    /// GPUs of each worker, in order of CUDA_VISIBLE_DEVICES or of their numbers; 0 leaves that alone
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub gpus_per_worker: u16,
    /// Seconds until a worker has to be healthy; models take minutes to load
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub start_timeout: u64,
    /// Seconds that a worker has to end by itself when asked to, before it is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub stop_timeout: u64,
    /// How often a worker that ends is started again; ten healthy minutes begin the count anew
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub restarts: u32,
    /// Print the commands and the list of workers, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// More arguments for the engine's command
    #[arg(last = true, value_name = "ENGINE ARGUMENTS")]
    pub more: Vec<String>,
}

/// Starts the workers and stays until `stop`, or until none is left, which is an error.
pub async fn run(arguments: Arguments, stop: CancellationToken) -> Result<()> {
    let specs = engine::specs(&arguments)?;
    let list = engine::list(&arguments, &specs);
    if arguments.dry_run {
        let mut out = std::io::stdout().lock();
        for spec in &specs {
            writeln!(out, "# {}", spec.shell())?;
        }
        write!(out, "{list}")?;
        return Ok(());
    }
    require_ports(&specs)?;
    // The options files of trtllm-serve live as long as the workers.
    let folder = Options::new(&specs)?;
    let stopping = Duration::from_secs(arguments.stop_timeout);
    let patience = Duration::from_secs(arguments.start_timeout);
    let mut workers = Vec::new();
    for spec in specs {
        // A worker that can not be started stops those before it as they are dropped.
        workers.push(Worker::start(spec, stopping)?);
    }
    if let Err(error) = all_healthy(&mut workers, patience, &stop).await {
        stop_all(workers).await;
        drop(folder);
        return if stop.is_cancelled() { Ok(()) } else { Err(error) };
    }
    print!("{list}");
    std::io::stdout().flush().context("stdout can not be written")?;
    tracing::info!(workers = workers.len(), "all workers are healthy");
    let outcome = watch(workers, arguments.restarts, patience, &stop).await;
    drop(folder);
    outcome
}

/// Says which port is taken before an engine spends a minute to find out.
fn require_ports(specs: &[Spec]) -> Result<()> {
    for spec in specs {
        for (address, flag) in [
            (spec.http, "--base-http-port"),
            (spec.events, "--base-kv-events-port"),
            (spec.replay, "--base-replay-port"),
        ] {
            TcpListener::bind(address).with_context(|| {
                format!(
                    "{address} (worker {}) can not be listened on; end what uses it or choose \
                     others with {flag}",
                    spec.id
                )
            })?;
        }
    }
    Ok(())
}

async fn all_healthy(
    workers: &mut [Worker],
    patience: Duration,
    stop: &CancellationToken,
) -> Result<()> {
    let healthy = futures::future::try_join_all(
        workers.iter_mut().map(|worker| worker.wait_healthy(patience)),
    );
    tokio::select! {
        outcome = healthy => outcome.map(drop),
        () = stop.cancelled() => bail!("stopped while the workers started"),
    }
}

/// Keeps each worker running on its own; ends when all have ended.
async fn watch(
    workers: Vec<Worker>,
    restarts: u32,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for worker in workers {
        let stop = stop.clone();
        tasks.spawn(async move { worker.keep(restarts, patience, stop).await });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a worker is not watched any more");
        }
    }
    if !stop.is_cancelled() {
        bail!("every worker has ended; the reasons are above");
    }
    Ok(())
}

async fn stop_all(workers: Vec<Worker>) {
    futures::future::join_all(workers.into_iter().map(Worker::stop)).await;
}

/// Options files, removed when dropped.
struct Options(Vec<PathBuf>);

impl Options {
    fn new(specs: &[Spec]) -> Result<Self> {
        let mut written = Self(Vec::new());
        for (path, text) in specs.iter().filter_map(|spec| spec.options.as_ref()) {
            std::fs::write(path, text)
                .with_context(|| format!("can not write {}", path.display()))?;
            written.0.push(path.clone());
        }
        Ok(written)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nobody is left to be told that a temporary file stays.
            let _ = std::fs::remove_file(path);
        }
    }
}
