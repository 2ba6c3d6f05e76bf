//! The command `warmpath-simworker`: a fleet of simulated workers in the foreground.

use clap::Parser;
use warmpath_simworker::{Fleet, Options};

/// Simulated vLLM workers: OpenAI HTTP, prefix cache, KV events, load metrics
#[derive(Parser)]
#[command(name = "warmpath-simworker", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let fleet = Fleet::start(cli.options).await?;
    tokio::signal::ctrl_c().await?;
    fleet.shutdown().await;
    Ok(())
}
