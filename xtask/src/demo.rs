//! `cargo xtask demo`: the same traffic without and with Warmpath.

mod engines;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tempfile::TempDir;
use warmpath_simworker::EngineKind;
use warmpath_testbed::envoy::Config;
use warmpath_testbed::stack::{Gateway, GatewayOptions};
use warmpath_testbed::workload::Workload;
use warmpath_testbed::{Client, Envoy, build, envoy, ports};

use crate::output;
use engines::Engines;
use report::Phase;
pub(crate) use report::Report;

/// Arguments of `cargo xtask demo`; the names of the routers that it succeeds.
#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// What serves the model
    #[arg(long, value_enum, default_value_t = Engine::Sim)]
    pub(crate) engine: Engine,
    /// Which engine simulated workers speak like
    #[arg(long, value_enum, default_value_t = EngineKind::Vllm)]
    pub(crate) speaks: EngineKind,
    /// How many workers
    #[arg(long, alias = "num-workers", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// Folder of the model, with its tokenizer; for simulated engines any name; a tiny one where absent
    #[arg(long, value_name = "DIR|NAME")]
    pub(crate) model: Option<PathBuf>,
    /// The engine's command, vllm or trtllm-serve; the one on PATH where absent
    #[arg(long, alias = "trtllm", value_name = "PATH")]
    pub(crate) vllm: Option<PathBuf>,
    /// Tokens in a KV block [default: 16; 32 for vllm, whose CPU build takes no other, and all trtllm]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) block_size: Option<usize>,
    /// The indexer's policy; its default where absent
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// How many requests to send, about, each time
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub(crate) requests: usize,
    /// Envoy's port
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) http_port: u16,
    /// The indexer's port; its admin port is the next
    #[arg(long, value_name = "PORT", default_value_t = 7000)]
    pub(crate) router_port: u16,
    /// Worker 0's HTTP port; worker i's is i further, here and below
    #[arg(long, value_name = "PORT", default_value_t = 8100)]
    pub(crate) base_http_port: u16,
    /// Worker 0's KV event port
    #[arg(long, value_name = "PORT", default_value_t = 5557)]
    pub(crate) base_kv_events_port: u16,
    /// Worker 0's replay port
    #[arg(long, value_name = "PORT", default_value_t = 5757)]
    pub(crate) base_replay_port: u16,
    /// Worker 0's load metrics port
    #[arg(long, value_name = "PORT", default_value_t = 5657)]
    pub(crate) base_metrics_port: u16,
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print the figures as JSON at the end
    #[arg(long)]
    pub(crate) json: bool,
    /// More arguments for the engine's command
    #[arg(skip)]
    pub(crate) more: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Simulated engines in this process
    Sim,
    /// Real vLLM servers on this machine, CPU or GPU
    Vllm,
    /// Real TensorRT-LLM servers on this machine
    Trtllm,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    // Everything that was started ends with the dropped future.
    tokio::select! {
        outcome = show(&arguments) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn show(arguments: &Arguments) -> Result<()> {
    check_ports(arguments)?;
    let folder = TempDir::new().context("can not make a temporary folder")?;
    let workload = |model: &str| {
        let mut workload = Workload::demo(model, arguments.requests);
        if arguments.engine != Engine::Sim {
            workload.system_words = 120;
            workload.user_words = 60;
        }
        workload
    };
    let (report, running) = compare(arguments, folder.path(), workload).await?;
    report.print();
    if arguments.json {
        output::json(&report)?;
    }
    if arguments.keep {
        keep(&running.gateway).await;
    }
    report.verdict()
}

/// What still runs after a comparison.
pub(crate) struct Running {
    // First, so that it ends before the engines.
    gateway: Gateway,
    _engines: Engines,
}

/// Sends the same traffic without and with Warmpath to the same workers, whose
/// caches are emptied in between; files are in `folder`.
pub(crate) async fn compare(
    arguments: &Arguments,
    folder: &Path,
    workload: impl FnOnce(&str) -> Workload,
) -> Result<(Report, Running)> {
    let step = output::step("building the filter and the indexer, fetching Envoy");
    build::filter_wasm(build::Module::Simd)?;
    build::indexer(build::Profile::Dev)?;
    envoy::locate()?;
    step.done();

    let step = output::step(&format!("starting {} workers", arguments.workers));
    let engines = Engines::start(arguments, folder).await?;
    step.done();

    let workload = workload(engines.model());
    let round_robin = round_robin(arguments, &engines, &workload, folder).await?;
    let engines = engines.forget(folder).await?;

    let options = gateway_options(arguments, &engines);
    let step = output::step("starting the indexer, and Envoy with the filter");
    let gateway = Gateway::start(&options, engines.all(), folder).await?;
    let skipped = gateway.wait_deciding().await?;
    gateway.envoy.wait_access_log(skipped).await?;
    step.done();
    let warmpath = measure("Warmpath", &workload, &gateway.envoy, &engines, skipped).await?;
    let report = Report::new(arguments.workers, round_robin, warmpath);
    Ok((report, Running { gateway, _engines: engines }))
}

async fn round_robin(
    arguments: &Arguments,
    engines: &Engines,
    workload: &Workload,
    folder: &Path,
) -> Result<Phase> {
    let mut config = Config::read("envoy/bootstrap.yaml")?;
    config.listen(arguments.http_port, 0)?.without_filter()?.round_robin()?;
    let addresses: Vec<_> = engines.all().iter().map(|engine| engine.http).collect();
    config.workers(&addresses)?;
    let folder = folder.join("round-robin");
    std::fs::create_dir_all(&folder).context("can not make a folder for the logs")?;
    let envoy = Envoy::start(config, &folder, 1).await?;
    measure("round robin", workload, &envoy, engines, 0).await
}

/// Runs the workload; `skipped` lines of the access log are older.
async fn measure(
    name: &str,
    workload: &Workload,
    envoy: &Envoy,
    engines: &Engines,
    skipped: usize,
) -> Result<Phase> {
    let progress = output::progress(name, workload.requests());
    let figures = workload.run(&Client::new(&envoy.url()), progress).await?;
    let log = envoy.wait_access_log(skipped + workload.requests()).await?;
    Ok(Phase::new(figures, &log[skipped..], engines.all()))
}

fn gateway_options(arguments: &Arguments, engines: &Engines) -> GatewayOptions {
    let mut options = GatewayOptions::new(engines.model(), engines.model_path());
    // The filter as shipped, but that it reports and can be played with.
    options.filter = serde_json::json!({"report": true, "overrides": true});
    options.http_port = arguments.http_port;
    options.indexer.port = Some(arguments.router_port);
    options.indexer.policy.clone_from(&arguments.policy);
    options.indexer.block_size = Some(engines.block_size());
    options
}

fn check_ports(arguments: &Arguments) -> Result<()> {
    ports::require(arguments.http_port, "Envoy", "--http-port")?;
    ports::require(arguments.router_port, "the indexer", "--router-port")?;
    ports::require(
        arguments.router_port.saturating_add(1),
        "the indexer's admin port",
        "--router-port",
    )?;
    for (base, what, flag) in [
        (arguments.base_http_port, "a worker's HTTP", "--base-http-port"),
        (arguments.base_kv_events_port, "a worker's KV events", "--base-kv-events-port"),
        (arguments.base_replay_port, "a worker's replay", "--base-replay-port"),
        (arguments.base_metrics_port, "a worker's load metrics", "--base-metrics-port"),
    ] {
        for port in base..base.saturating_add(arguments.workers) {
            ports::require(port, what, flag)?;
        }
    }
    Ok(())
}

async fn keep(gateway: &Gateway) {
    let (http, api, admin) = (gateway.envoy.http, gateway.indexer.api, gateway.indexer.admin);
    let model = &gateway.model;
    println!(
        "\nrunning until Ctrl-C; logs are in {}\n\n  \
         curl -i http://{http}/v1/chat/completions -H 'content-type: application/json' \\\n    \
         -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n  \
         curl http://{api}/v1/workers\n  \
         curl 'http://{api}/v1/decisions?last=5'\n  \
         curl http://{admin}/metrics\n",
        gateway.folder().display()
    );
    std::future::pending().await
}
