//! `cargo xtask bench gateway`: what Warmpath adds to Envoy.
//!
//! Plain Envoy and Envoy with the filter take turns at the same prompts, both with
//! one worker thread; Envoy and the indexer have one core, the load and the workers,
//! which answer at once, another. Processor time is the processes' own, by
//! `/proc`, so it does not depend on what else the machine does.
//!
//! `--serve` starts the same Envoy and indexer before workers of yours, for
//! benchmarks that bring their own load.

mod callbacks;
mod load;
pub(super) mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tempfile::TempDir;
use warmpath_testbed::build::{self, Module, Profile};
use warmpath_testbed::envoy::Config;
use warmpath_testbed::indexer::{Engine, EngineKind};
use warmpath_testbed::measure::Percentiles;
use warmpath_testbed::stack::{Gateway, GatewayOptions, tiny_model};
use warmpath_testbed::{Envoy, envoy};

use crate::output;
use load::Prompts;

/// Arguments of `cargo xtask bench gateway`.
#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the model whose tokenizer is used; a tiny one, with many tokens, where absent
    #[arg(long, value_name = "DIR")]
    model_path: Option<PathBuf>,
    /// The name that requests give the model
    #[arg(long, value_name = "NAME", default_value = "bench")]
    model: String,
    /// Sizes of the requests' bodies
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "4096,131072")]
    sizes: Vec<usize>,
    /// Seconds of load at a time
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// How often both take their turn; medians are shown
    #[arg(long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Requests under way at full rate
    #[arg(long, value_name = "N", default_value_t = 32)]
    users: usize,
    /// How long the filter keeps Envoy's thread at a time, instead
    #[arg(long, conflicts_with = "serve")]
    callbacks: bool,
    /// Only start Envoy, on this port, and the indexer, and leave them running
    #[arg(long, value_name = "PORT", requires = "workers")]
    serve: Option<u16>,
    /// The workers behind them, ip:port; they need not publish anything
    #[arg(long, value_name = "IP:PORT,…", value_delimiter = ',')]
    workers: Vec<SocketAddr>,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    tokio::select! {
        outcome = work(arguments) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn work(arguments: &Arguments) -> Result<()> {
    let step = output::step("building the filter and the indexer, fetching Envoy");
    build::filter_wasm(Module::Simd)?;
    build::indexer(Profile::Release)?;
    envoy::locate()?;
    step.done();
    let folder = TempDir::new().context("can not make a temporary folder")?;
    match arguments.serve {
        Some(port) => serve(arguments, port, folder.path()).await,
        None => measure(arguments, folder.path()).await,
    }
}

async fn serve(arguments: &Arguments, port: u16, folder: &Path) -> Result<()> {
    let gateway = start(arguments, port, &arguments.workers, folder).await?;
    println!(
        "http://{} before {} workers; logs are in {}",
        gateway.envoy.http,
        arguments.workers.len(),
        folder.display()
    );
    std::future::pending().await
}

/// Envoy as shipped but for the access log, which no peer writes.
async fn start(
    arguments: &Arguments,
    port: u16,
    workers: &[SocketAddr],
    folder: &Path,
) -> Result<Gateway> {
    let path = arguments.model_path.clone().unwrap_or_else(tiny_model);
    let mut options = GatewayOptions::new(&arguments.model, &path);
    options.filter = serde_json::json!({});
    options.http_port = port;
    options.indexer.profile = Profile::Release;
    options.indexer.block_size = Some(16);
    options.indexer.is_following = false;
    // Engines have events, as a rule; here nothing stands for them.
    options.indexer.settings = serde_json::json!({ "predict": { "ttl_ms": 0 } });
    let engine = |http: &SocketAddr| Engine {
        http: *http,
        events: *http,
        replay: *http,
        metrics: None,
        kind: EngineKind::Vllm,
    };
    let engines: Vec<_> = workers.iter().map(engine).collect();
    let gateway = Gateway::start_edited(&options, &engines, folder, |config| {
        config.without_access_log().map(drop)
    })
    .await?;
    gateway.wait_loaded(1).await?;
    Ok(gateway)
}

/// Figures of one size, of one of the two.
#[derive(Default)]
struct Turns {
    rate: Vec<f64>,
    envoy: Vec<f64>,
    indexer: Vec<f64>,
    latency: Vec<f64>,
}

/// The same, as shown.
#[derive(Serialize)]
struct Figures {
    requests_per_second: f64,
    envoy_us_per_request: f64,
    indexer_us_per_request: f64,
    /// One request at a time.
    latency_us: f64,
}

#[derive(Serialize)]
struct Row {
    bytes: usize,
    plain: Figures,
    warmpath: Figures,
}

#[derive(Serialize)]
struct Report {
    model: String,
    sizes: Vec<Row>,
}

async fn measure(arguments: &Arguments, folder: &Path) -> Result<()> {
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(wire::worker().await?);
    }
    if arguments.callbacks {
        return measure_callbacks(arguments, &workers, folder).await;
    }
    let step = output::step("starting the indexer, Envoy with the filter, and Envoy without");
    let own = folder.join("plain");
    std::fs::create_dir_all(&own)?;
    let mut config = Config::read("envoy/bootstrap.yaml")?;
    config
        .listen(0, 0)?
        .without_filter()?
        .round_robin()?
        .workers(&workers)?
        .without_access_log()?;
    let plain = Envoy::start(config, &own, 1).await?;
    let gateway = start(arguments, 0, &workers, folder).await?;
    step.done();
    pin(&[plain.pid(), gateway.envoy.pid(), gateway.indexer.pid()]);

    let mut sizes = Vec::new();
    for &bytes in &arguments.sizes {
        let step = output::step(&format!("{bytes} bytes"));
        sizes.push(size(arguments, bytes, &plain, &gateway).await?);
        step.done();
    }
    let report = Report { model: arguments.model.clone(), sizes };
    report.print();
    if arguments.json {
        output::json(&report)?;
    }
    Ok(())
}

async fn measure_callbacks(
    arguments: &Arguments,
    workers: &[SocketAddr],
    folder: &Path,
) -> Result<()> {
    let gateway = start(arguments, 0, workers, folder).await?;
    pin(&[gateway.envoy.pid(), gateway.indexer.pid()]);
    let seconds = Duration::from_secs_f64(arguments.seconds);
    let Arguments { model, sizes, users, .. } = arguments;
    let rows = callbacks::measure(&gateway, model, sizes, *users, seconds).await?;
    callbacks::print(&rows);
    if arguments.json {
        output::json(&rows)?;
    }
    Ok(())
}

async fn size(
    arguments: &Arguments,
    bytes: usize,
    plain: &Envoy,
    gateway: &Gateway,
) -> Result<Row> {
    let prompts = Arc::new(Prompts::new(&arguments.model, bytes, 8));
    let duration = Duration::from_secs_f64(arguments.seconds);
    let both = [(plain.http, plain.pid(), None), {
        let indexer = Some(gateway.indexer.pid());
        (gateway.envoy.http, gateway.envoy.pid(), indexer)
    }];
    // Every prompt once, so that what is remembered of them is.
    for (address, ..) in both {
        load::run(address, &prompts, arguments.users, Duration::MAX, prompts.len()).await?;
    }
    let fallbacks = fallbacks(gateway).await?;
    let mut turns = [Turns::default(), Turns::default()];
    for _ in 0..arguments.repetitions.max(1) {
        for ((address, envoy, indexer), turns) in both.into_iter().zip(&mut turns) {
            let one = load::run(address, &prompts, 1, duration / 2, usize::MAX).await?;
            turns.latency.push(Percentiles::of(one.microseconds).p50);
            let spent = |pid: Option<u32>| pid.map_or(0.0, processor_time);
            let before = (spent(Some(envoy)), spent(indexer));
            let full = load::run(address, &prompts, arguments.users, duration, usize::MAX).await?;
            let requests = full.requests as f64;
            turns.envoy.push((spent(Some(envoy)) - before.0) / requests);
            turns.indexer.push((spent(indexer) - before.1) / requests);
            turns.rate.push(requests / full.seconds);
        }
    }
    let fell_back = self::fallbacks(gateway).await? - fallbacks;
    ensure!(fell_back == 0.0, "{fell_back} requests were not decided about: this measures nothing");
    let [plain, warmpath] = turns.map(Turns::figures);
    Ok(Row { bytes, plain, warmpath })
}

impl Turns {
    fn figures(self) -> Figures {
        let median = |values| Percentiles::of(values).p50;
        Figures {
            requests_per_second: median(self.rate),
            envoy_us_per_request: median(self.envoy),
            indexer_us_per_request: median(self.indexer),
            latency_us: median(self.latency),
        }
    }
}

/// Requests that the filter let go without a decision.
async fn fallbacks(gateway: &Gateway) -> Result<f64> {
    let metrics = gateway.envoy.metrics().await?;
    let fallen = |name: &str| name.contains("warmpath_requests_total") && name.contains("fallback");
    Ok(metrics.iter().filter(|(name, _)| fallen(name)).map(|(_, count)| count).sum())
}

/// Microseconds that a process's threads computed; 0 where the system does not say.
pub(super) fn processor_time(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(spent).sum::<f64>() / 1000.0
}

/// Gives these processes a core of their own, and this one another, where there
/// are two and `taskset` can.
fn pin(measured: &[u32]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut pinned = cores > 1;
    for (core, pid) in
        [("0", std::process::id())].into_iter().chain(measured.iter().map(|pid| ("1", *pid)))
    {
        let mut taskset = Command::new("taskset");
        taskset.args(["-acp", core, &pid.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        pinned = pinned && taskset.status().is_ok_and(|status| status.success());
    }
    if !pinned {
        eprintln!("  not pinned to cores: rates are not of one core");
    }
}

impl Report {
    fn print(&self) {
        println!("\n{:32}{:>12}{:>12}{:>10}", "", "Envoy", "Warmpath", "ratio");
        let line = |what: &str, plain: f64, ours: f64| {
            println!("{what:32}{plain:>12.0}{ours:>12.0}{:>9.2}×", ours / plain);
        };
        for Row { bytes, plain, warmpath } in &self.sizes {
            println!("{bytes} bytes");
            let added = plain.envoy_us_per_request;
            let all = warmpath.envoy_us_per_request + warmpath.indexer_us_per_request;
            line(
                "  requests/s of one core",
                plain.requests_per_second,
                warmpath.requests_per_second,
            );
            line("  processor µs/request", added, all);
            println!("{:32}{:>24.0}", "    of them the indexer's", warmpath.indexer_us_per_request);
            line("  µs to the answer, one at a time", plain.latency_us, warmpath.latency_us);
        }
    }
}
