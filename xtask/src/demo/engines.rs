//! The demo's workers, of whichever kind.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use warmpath_simworker::{EngineKind, Fleet, Options};
use warmpath_testbed::Client;
use warmpath_testbed::indexer::Engine as Address;
use warmpath_testbed::servers::{self, Bases, ServerOptions, Servers};
use warmpath_testbed::stack::{engines, tiny_model};

use super::{Arguments, Engine};

/// Running workers and the model that they serve.
pub(super) struct Engines {
    addresses: Vec<Address>,
    model: String,
    model_path: PathBuf,
    block_size: usize,
    kind: Kind,
}

enum Kind {
    Sim(Fleet, Box<Options>),
    Real(Servers, Box<ServerOptions>),
}

impl Engines {
    pub(super) async fn start(arguments: &Arguments, folder: &Path) -> Result<Self> {
        let (model_path, model) = model(arguments)?;
        let block_size = arguments.block_size.unwrap_or(match arguments.engine {
            Engine::Sim if matches!(arguments.speaks, EngineKind::Vllm | EngineKind::Sglang) => 16,
            Engine::Sim | Engine::Vllm | Engine::Trtllm => 32,
        });
        let (addresses, kind) = match arguments.engine {
            Engine::Sim => {
                let options = simulated(arguments, &model_path, &model, block_size);
                let fleet = Fleet::start(options.clone()).await?;
                (engines(&fleet), Kind::Sim(fleet, Box::new(options)))
            }
            Engine::Vllm | Engine::Trtllm => {
                let options = real(arguments, &model_path, &model, block_size)?;
                let servers = Servers::start(&options, folder).await?;
                (servers.engines.clone(), Kind::Real(servers, Box::new(options)))
            }
        };
        Ok(Self { addresses, model, model_path, block_size, kind })
    }

    /// The workers' addresses, by id.
    pub(super) fn all(&self) -> &[Address] {
        &self.addresses
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn model_path(&self) -> &Path {
        &self.model_path
    }

    pub(super) fn block_size(&self) -> usize {
        self.block_size
    }

    /// Empties every cache, so that the second run starts like the first.
    pub(super) async fn forget(self, folder: &Path) -> Result<Self> {
        let kind = match self.kind {
            Kind::Sim(fleet, options) => {
                fleet.shutdown().await;
                Kind::Sim(Fleet::start((*options).clone()).await?, options)
            }
            Kind::Real(servers, options) if options.kind == servers::Kind::Vllm => {
                for engine in &self.addresses {
                    reset(engine, &self.model).await?;
                }
                Kind::Real(servers, options)
            }
            // It has no way to be told.
            Kind::Real(servers, options) => {
                drop(servers);
                Kind::Real(Servers::start(&options, folder).await?, options)
            }
        };
        Ok(Self { kind, ..self })
    }
}

async fn reset(engine: &Address, model: &str) -> Result<()> {
    let client = Client::new(&format!("http://{}", engine.http));
    let reply = client.send("/reset_prefix_cache", &serde_json::json!({}), &[]).await?;
    if reply.status != 200 {
        bail!("the engine did not empty its cache: {} {}", reply.status, reply.text);
    }
    // It says so to the indexer only with its next step.
    let prompt = serde_json::json!({"model": model, "prompt": "x", "max_tokens": 1});
    client.completion(&prompt).await?;
    Ok(())
}

fn real(
    arguments: &Arguments,
    path: &Path,
    model: &str,
    block_size: usize,
) -> Result<ServerOptions> {
    let kind = match arguments.engine {
        Engine::Trtllm => servers::Kind::Trtllm,
        Engine::Vllm | Engine::Sim => servers::Kind::Vllm,
    };
    Ok(ServerOptions {
        kind,
        program: kind.find(arguments.vllm.as_deref())?,
        model_path: path.to_owned(),
        model: model.to_owned(),
        block_size,
        servers: arguments.workers,
        bases: Bases {
            http: arguments.base_http_port,
            events: arguments.base_kv_events_port,
            replay: arguments.base_replay_port,
        },
        more: arguments.more.clone(),
    })
}

/// The model's folder and the name to serve it under.
fn model(arguments: &Arguments) -> Result<(PathBuf, String)> {
    let given = arguments.model.clone().unwrap_or_else(tiny_model);
    if given.join("tokenizer.json").is_file() {
        let name = given.file_name().context("--model names no folder")?;
        let name = name.to_string_lossy().into_owned();
        return Ok((given, name));
    }
    // Simulated engines have no weights: any name will do for them.
    if arguments.engine == Engine::Sim && !given.exists() {
        return Ok((tiny_model(), given.to_string_lossy().into_owned()));
    }
    bail!("{} holds no tokenizer.json; --model takes the folder of a model", given.display())
}

/// Workers whose caches hold a fair part of the conversations, but not all:
/// what a fleet is like whose routing matters.
fn simulated(arguments: &Arguments, path: &Path, model: &str, block_size: usize) -> Options {
    let cache_tokens = 18_432;
    Options {
        engine: arguments.speaks,
        served_model_name: Some(model.to_owned()),
        num_workers: usize::from(arguments.workers),
        base_http_port: arguments.base_http_port,
        base_kv_events_port: arguments.base_kv_events_port,
        base_replay_port: arguments.base_replay_port,
        base_metrics_port: arguments.base_metrics_port,
        block_size,
        num_blocks: cache_tokens / block_size + 1,
        max_model_len: 16_384,
        prefill_tokens_per_second: 3000.0,
        decode_ms_per_token: 5.0,
        ..Options::new(path)
    }
}
