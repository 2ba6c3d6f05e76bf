//! The command `warmpath-simworker`: a fleet of simulated workers in the foreground.

use std::io::Write;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use warmpath_simworker::{Fleet, Options};

/// Simulated vLLM workers: OpenAI HTTP, prefix cache, KV events, load metrics.
///
/// Worker i serves HTTP on the base port + i and load metrics on the base port
/// + i; its data-parallel rank r publishes KV events on the base port + i * ranks
/// + r, and answers replays likewise. All addresses are printed at the start.
#[derive(Parser)]
#[command(name = "warmpath-simworker", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Cli { options } = Cli::parse();
    let (model, ranks) = (options.model_name(), options.ranks);
    let mut terminated = signal(SignalKind::terminate())?;
    let fleet = Fleet::start(options).await?;

    let mut out = std::io::stdout().lock();
    for worker in fleet.workers() {
        writeln!(
            out,
            "worker {}: model {model}, http://{}, events tcp://{}, replay tcp://{}, metrics tcp://{}",
            worker.index, worker.http, worker.events, worker.replay, worker.metrics,
        )?;
    }
    if ranks > 1 {
        writeln!(out, "rank r of a worker publishes and replays r ports further, r < {ranks}")?;
    }
    out.flush()?;
    drop(out);

    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    fleet.shutdown().await;
    Ok(())
}
