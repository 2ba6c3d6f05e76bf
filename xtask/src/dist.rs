//! `cargo xtask dist`: the files of a release.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use warmpath_testbed::Envoy;
use warmpath_testbed::build::{self, Module, Profile};
use warmpath_testbed::stack::{Gateway, GatewayOptions};

use crate::output;

/// The indexer's file in dist/.
const INDEXER: &str = if cfg!(windows) { "warmpath-indexer.exe" } else { "warmpath-indexer" };

/// Arguments of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also measure memory and start time in Envoy with this model's tokenizer
    #[arg(long, value_name = "MODEL_DIR")]
    measure: Option<PathBuf>,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    files: Vec<File>,
    wasm_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
}

#[derive(Serialize)]
struct File {
    path: String,
    bytes: u64,
    sha256: String,
}

/// The module in Envoy with a real tokenizer.
#[derive(Serialize)]
struct Measured {
    /// From starting Envoy to listening, without the filter.
    start_without_ms: f64,
    /// The same with the filter: the module is compiled.
    start_with_ms: f64,
    /// From listening to the first decision: manifest and table are fetched.
    first_decision_ms: f64,
    /// What each further Envoy worker thread adds, without the filter.
    rss_per_worker_without_mib: f64,
    /// What each further Envoy worker thread adds, its VM with the table in it.
    rss_per_worker_with_mib: f64,
    /// The difference: memory of one VM.
    memory_per_vm_mib: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let step = output::step("building the module and the indexer, optimised");
    let sources = [
        (build::filter_wasm(Module::Simd)?, "warmpath_filter.wasm"),
        (build::filter_wasm(Module::Scalar)?, "warmpath_filter_scalar.wasm"),
        (build::indexer(Profile::Release)?, INDEXER),
    ];
    step.done();
    let folder = build::workspace_root().join("dist");
    fs::create_dir_all(&folder).with_context(|| format!("can not make {}", folder.display()))?;
    let files = sources
        .iter()
        .map(|(source, name)| ship(source, &folder, name))
        .collect::<Result<Vec<_>>>()?;
    let sums: String = files
        .iter()
        .map(|file| format!("{}  {}\n", file.sha256, file.path.trim_start_matches("dist/")))
        .collect();
    fs::write(folder.join("SHA256SUMS"), sums).context("can not write dist/SHA256SUMS")?;
    for file in &files {
        println!("{:>12} bytes  {}  {}", file.bytes, &file.sha256[..16], file.path);
    }
    let wasm_bytes = files.first().map_or(0, |file| file.bytes);
    let measured = match &arguments.measure {
        Some(model) => Some(measure(model).await?),
        None => None,
    };
    if let Some(measured) = &measured {
        print(measured);
    }
    if arguments.json {
        output::json(&Report { files, wasm_bytes, measured })?;
    }
    Ok(())
}

fn ship(source: &Path, folder: &Path, name: &str) -> Result<File> {
    let target = folder.join(name);
    let content = fs::read(source).with_context(|| format!("can not read {}", source.display()))?;
    // A running indexer keeps its old file; only a new name can be written.
    let new = target.with_extension("new");
    fs::copy(source, &new).with_context(|| format!("can not write {}", new.display()))?;
    fs::rename(&new, &target).with_context(|| format!("can not write {}", target.display()))?;
    let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(File { path: format!("dist/{name}"), bytes: content.len() as u64, sha256 })
}

async fn measure(model: &Path) -> Result<Measured> {
    if !model.join("tokenizer.json").is_file() {
        bail!("{} has no tokenizer.json", model.display());
    }
    let step = output::step("measuring in Envoy");
    let alone = bare(model, 1).await?;
    let start_without_ms = alone.1.started_in.as_secs_f64() * 1e3;
    let one = resident(alone.1.pid())?;
    drop(alone);
    let five = bare(model, 5).await?;
    let rss_per_worker_without_mib = (resident(five.1.pid())? - one) / 4.0;
    drop(five);

    let (start_with_ms, first_decision_ms, one) = deciding(model, 1).await?;
    let (_, _, five) = deciding(model, 5).await?;
    let rss_per_worker_with_mib = (five - one) / 4.0;
    step.done();
    Ok(Measured {
        start_without_ms,
        start_with_ms,
        first_decision_ms,
        rss_per_worker_without_mib,
        rss_per_worker_with_mib,
        memory_per_vm_mib: rss_per_worker_with_mib - rss_per_worker_without_mib,
    })
}

/// Envoy without the filter.
async fn bare(model: &Path, concurrency: u32) -> Result<(TempDir, Envoy)> {
    let folder = TempDir::new().context("can not make a temporary folder")?;
    let mut config = GatewayOptions::new("measured", model).bootstrap()?;
    config.without_filter()?;
    let envoy = Envoy::start(config, folder.path(), concurrency).await?;
    Ok((folder, envoy))
}

/// Envoy with the filter: milliseconds to listening, then to the first
/// decision, and MiB once every worker thread's VM has its table.
async fn deciding(model: &Path, concurrency: u32) -> Result<(f64, f64, f64)> {
    let folder = TempDir::new().context("can not make a temporary folder")?;
    let mut options = GatewayOptions::new("measured", model);
    options.concurrency = concurrency;
    options.indexer.profile = Profile::Release;
    options.indexer.block_size = Some(16);
    // Nobody answers there: the decision is what counts, not the answer.
    let port = warmpath_testbed::ports::run(3)?;
    let at = warmpath_testbed::ports::loopback;
    let engine = warmpath_testbed::indexer::Engine {
        http: at(port),
        events: at(port + 1),
        replay: at(port + 2),
        metrics: None,
        kind: warmpath_testbed::indexer::EngineKind::Vllm,
    };
    let gateway = Gateway::start(&options, &[engine], folder.path()).await?;
    let listening = Instant::now();
    gateway.wait_loaded(concurrency).await?;
    let loaded = milliseconds(listening);
    Ok((gateway.envoy.started_in.as_secs_f64() * 1e3, loaded, resident(gateway.envoy.pid())?))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Resident memory of a process in MiB.
fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("can not read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn print(measured: &Measured) {
    println!(
        "Envoy listens after             {:>8.0} ms without the filter",
        measured.start_without_ms
    );
    println!("                                {:>8.0} ms with it", measured.start_with_ms);
    println!("tokenizer loaded after another  {:>8.0} ms", measured.first_decision_ms);
    println!("memory of one VM                {:>8.1} MiB", measured.memory_per_vm_mib);
}
