//! `cargo xtask e2e`: tokens and predictions against an engine's own words.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tempfile::TempDir;
use warmpath_testbed::corpus::corpus;
use warmpath_testbed::exact::{self, Exactness};
use warmpath_testbed::servers::{Bases, Kind, ServerOptions, Servers};
use warmpath_testbed::stack;
use warmpath_testbed::stack::{Gateway, GatewayOptions, Stack, StackOptions, tiny_model};

use crate::output;

/// Arguments of `cargo xtask e2e`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The engine to compare with
    #[arg(long, value_enum, default_value_t = Engine::Sim)]
    engine: Engine,
    /// The vllm command; the one on PATH where absent
    #[arg(long, value_name = "PATH")]
    vllm: Option<PathBuf>,
    /// Folder of the model; a tiny one with random weights where absent
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// How many requests; one round of every kind where absent
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
    /// How many engines
    #[arg(long, alias = "num-workers", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// Simulated engines in this process
    Sim,
    /// Real vLLM servers on this machine
    Vllm,
}

const MODEL: &str = "tiny";

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut cases = corpus(MODEL, 0);
    if let Some(requests) = arguments.requests {
        let more = (1..).flat_map(|round| corpus(MODEL, round));
        cases.extend(more.take(requests.saturating_sub(cases.len())));
        cases.truncate(requests);
    }
    let model = arguments.model.clone().unwrap_or_else(tiny_model);
    let progress = output::progress("requests", cases.len());
    let result = match arguments.engine {
        Engine::Sim => {
            let mut options = StackOptions::default();
            options.sim.num_workers = usize::from(arguments.workers);
            options.sim.model_path.clone_from(&model);
            options.gateway.indexer.model_path = Some(model);
            let step = output::step("starting simulated engines, indexer and Envoy");
            let stack = Stack::start(options).await?;
            step.done();
            exact::check(&stack.gateway, &stack::engines(&stack.fleet), &cases, progress).await
        }
        Engine::Vllm => {
            let options = ServerOptions {
                kind: Kind::Vllm,
                program: Kind::Vllm.find(arguments.vllm.as_deref())?,
                model_path: model.clone(),
                model: MODEL.to_owned(),
                block_size: 32,
                servers: arguments.workers,
                bases: Bases::free(arguments.workers)?,
                more: Vec::new(),
            };
            let folder = TempDir::new().context("can not make a temporary folder")?;
            let mut gateway = GatewayOptions::new(MODEL, &model);
            gateway.indexer.block_size = Some(options.block_size);
            // First what can fail soon.
            gateway.bootstrap()?;
            let step = output::step(&format!("starting {} vLLM servers", options.servers));
            let servers = Servers::start(&options, folder.path()).await?;
            step.done();
            let engines = &servers.engines;
            let gateway = Gateway::start(&gateway, engines, folder.path()).await?;
            gateway.wait_deciding().await?;
            exact::check(&gateway, engines, &cases, progress).await
        }
    };
    report(&result);
    if arguments.json {
        output::json(&result)?;
    }
    if !result.is_complete() {
        bail!("not every request is exact");
    }
    Ok(())
}

fn report(result: &Exactness) {
    for complaint in &result.complaints {
        println!("  {complaint}");
    }
    println!("token ids equal the engine's    {} / {}", result.tokens_exact, result.requests);
    println!("cached tokens as predicted      {} / {}", result.cached_exact, result.requests);
    println!("errors                          {}", result.errors);
    println!(
        "cached tokens                   {} of {}",
        result.cached_tokens, result.prompt_tokens
    );
}
