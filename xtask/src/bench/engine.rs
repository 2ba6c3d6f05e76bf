//! `cargo xtask bench engine`: what routing is worth in front of a real engine.
//!
//! vLLM servers on this machine, without a GPU if there is none: conversations that
//! come back, first through Envoy's round robin, then through Warmpath, the caches
//! emptied in between. The model is the tests' small one with more and wider layers
//! and random weights, so that a prompt takes about a second on a processor core.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use warmpath_simworker::EngineKind;
use warmpath_testbed::stack::tiny_model;
use warmpath_testbed::workload::Workload;
use warmpath_testbed::{build, ports};

use crate::{demo, output};

/// Arguments of `cargo xtask bench engine`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The vllm command; the one on PATH where absent
    #[arg(long, value_name = "PATH")]
    vllm: Option<PathBuf>,
    /// Folder of the model; one of 12 layers of 512 with random weights where absent
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// How many servers
    #[arg(long, alias = "num-workers", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Conversations
    #[arg(long, value_name = "N", default_value_t = 12)]
    sessions: usize,
    /// Tokens with which each conversation begins, about
    #[arg(long, value_name = "TOKENS", default_value_t = 1500)]
    tokens: usize,
    /// Requests of each conversation
    #[arg(long, value_name = "N", default_value_t = 12)]
    turns: usize,
    /// Requests under way at any time
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrency: usize,
    /// Memory of each server's KV cache, as vLLM takes it
    #[arg(long, value_name = "BYTES", default_value = "96M")]
    kv_cache: String,
    /// The indexer's policy; its default where absent
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

/// Words of the made texts for a token of the small model's tokenizer.
const WORDS_PER_TOKEN: f64 = 0.53;

/// What routing by prefix is to bring here, by round robin's.
const LEAST_RATE: f64 = 1.6;
const MOST_WAIT: f64 = 0.5;

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let model = arguments.model.clone().map_or_else(larger_model, Ok)?;
    let compared = demo::Arguments {
        engine: demo::Engine::Vllm,
        speaks: EngineKind::Vllm,
        workers: arguments.workers,
        model: Some(model),
        vllm: arguments.vllm.clone(),
        block_size: None,
        policy: arguments.policy.clone(),
        requests: 0,
        http_port: ports::free()?,
        router_port: ports::run(2)?,
        base_http_port: ports::run(arguments.workers)?,
        base_kv_events_port: ports::run(arguments.workers)?,
        base_replay_port: ports::run(arguments.workers)?,
        base_metrics_port: ports::run(arguments.workers)?,
        keep: false,
        json: arguments.json,
        more: vec!["--kv-cache-memory-bytes".to_owned(), arguments.kv_cache.clone()],
    };
    let workload = |model: &str| Workload {
        model: model.to_owned(),
        sessions: arguments.sessions,
        turns: arguments.turns,
        // Nothing is shared but what a conversation has said itself.
        systems: arguments.sessions,
        system_words: (arguments.tokens as f64 * WORDS_PER_TOKEN) as usize,
        user_words: 10,
        answer_tokens: 8,
        concurrency: arguments.concurrency,
        seed: 1,
    };
    let folder = TempDir::new().context("can not make a temporary folder")?;
    let (report, _running) = demo::compare(&compared, folder.path(), workload).await?;
    report.print();
    let (rate, wait) = report.gains();
    let verdict = |holds: bool| if holds { "holds" } else { "does not hold" };
    println!("requests/s at least {LEAST_RATE}×      {}", verdict(rate >= LEAST_RATE));
    println!("TTFT mean at most {MOST_WAIT}×       {}", verdict(wait <= MOST_WAIT));
    if arguments.json {
        output::json(&report)?;
    }
    report.verdict()
}

/// The small model's folder with a larger configuration.
fn larger_model() -> Result<PathBuf> {
    let folder = build::scratch_dir("engine-model")?.join("larger");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("can not make {}", folder.display()))?;
    for file in std::fs::read_dir(tiny_model()).context("the small model is not there")?.flatten() {
        std::fs::copy(file.path(), folder.join(file.file_name()))
            .with_context(|| format!("can not copy {}", file.path().display()))?;
    }
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).context("the small model has no config.json")?;
    let mut config: Value = serde_json::from_str(&text).context("the small model's config.json")?;
    for (field, value) in [
        ("hidden_size", 512),
        ("intermediate_size", 2048),
        ("num_hidden_layers", 12),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 2),
    ] {
        config[field] = json!(value);
    }
    std::fs::write(&path, config.to_string())
        .with_context(|| format!("can not write {}", path.display()))?;
    Ok(folder)
}
