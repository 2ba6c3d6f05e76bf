//! One worker's command line, and how the indexer is told of it.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Arguments, Kind};

/// TensorRT-LLM's own block size.
const TRTLLM_BLOCK: u32 = 32;

/// One worker, as it is started.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Its id.
    pub(super) id: u16,
    pub(super) http: SocketAddr,
    pub(super) events: SocketAddr,
    pub(super) replay: SocketAddr,
    /// The engine's command.
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// A file that the arguments name, and what is in it.
    pub(super) options: Option<(PathBuf, String)>,
}

impl Spec {
    /// The command as it would be typed.
    pub(super) fn shell(&self) -> String {
        let mut line = String::new();
        for (name, value) in &self.environment {
            let _ = write!(line, "{name}={value} ");
        }
        let _ = write!(line, "{}", self.program.display());
        for argument in &self.arguments {
            let plain = |one: char| one.is_ascii_alphanumeric() || "-_./:,=".contains(one);
            if !argument.is_empty() && argument.chars().all(plain) {
                let _ = write!(line, " {argument}");
            } else {
                let _ = write!(line, " '{}'", argument.replace('\'', r"'\''"));
            }
        }
        line
    }
}

/// The workers that the arguments ask for.
pub(super) fn specs(arguments: &Arguments) -> Result<Vec<Spec>> {
    let program = program(arguments)?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let replay =
        arguments.base_replay_port.unwrap_or(arguments.base_kv_events_port.saturating_add(200));
    let at = |base: u16, i: u16| {
        let port =
            base.checked_add(i).with_context(|| format!("port {base} + {i} is past 65535"))?;
        Ok::<_, anyhow::Error>(SocketAddr::new(arguments.host, port))
    };
    let name = served_name(arguments);
    (0..arguments.num_workers)
        .map(|i| {
            let mut spec = Spec {
                id: i,
                http: at(arguments.base_http_port, i)?,
                events: at(arguments.base_kv_events_port, i)?,
                replay: at(replay, i)?,
                program: program.clone(),
                arguments: Vec::new(),
                environment: Vec::new(),
                options: None,
            };
            if arguments.gpus_per_worker > 0 {
                let gpus = gpus(i, arguments.gpus_per_worker, visible.as_deref())?;
                spec.environment.push(("CUDA_VISIBLE_DEVICES", gpus));
            }
            match arguments.engine {
                Kind::Vllm => vllm(arguments, &name, &mut spec),
                Kind::Trtllm => trtllm(arguments, &name, &mut spec),
            }
            spec.arguments.extend_from_slice(&arguments.more);
            Ok(spec)
        })
        .collect()
}

fn program(arguments: &Arguments) -> Result<PathBuf> {
    let (name, remedy) = match arguments.engine {
        Kind::Vllm => ("vllm", "pip install vllm"),
        Kind::Trtllm => ("trtllm-serve", "pip install tensorrt-llm"),
    };
    if let Some(path) = &arguments.command {
        if !path.is_file() {
            bail!("--command: {} is no file; give the path of {name}", path.display());
        }
        return Ok(path.clone());
    }
    if arguments.dry_run {
        return Ok(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| {
            format!("{name} is not on PATH: install it ({remedy}) or name it with --command")
        })
}

/// Worker `i`'s share of the visible GPUs.
fn gpus(i: u16, each: u16, visible: Option<&str>) -> Result<String> {
    let mine = i * each..i * each + each;
    let Some(visible) = visible else {
        return Ok(mine.map(|gpu| gpu.to_string()).collect::<Vec<_>>().join(","));
    };
    let all: Vec<&str> = visible.split(',').map(str::trim).filter(|gpu| !gpu.is_empty()).collect();
    let mine = all.get(usize::from(mine.start)..usize::from(mine.end)).with_context(|| {
        format!(
            "CUDA_VISIBLE_DEVICES={visible} has too few GPUs for worker {i} with {each} each; start \
             fewer workers, or --gpus-per-worker 0 to leave the choice to the engine"
        )
    })?;
    Ok(mine.join(","))
}

fn served_name(arguments: &Arguments) -> String {
    let folder = || Path::new(&arguments.model).file_name().filter(|_| folder(arguments).is_some());
    match (&arguments.served_model_name, folder()) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name.to_string_lossy().into_owned(),
        (None, None) => arguments.model.clone(),
    }
}

/// The model's folder, where it is one that the indexer can read.
fn folder(arguments: &Arguments) -> Option<PathBuf> {
    let path = Path::new(&arguments.model);
    path.join("tokenizer.json").is_file().then(|| path.to_owned())
}

fn vllm(arguments: &Arguments, name: &str, spec: &mut Spec) {
    // vLLM binds only endpoints with `*` or `::` in them and connects to any
    // other; this is how one address is named so that it is bound.
    let bound = |address: SocketAddr| match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => format!("tcp://*:{}", address.port()),
        IpAddr::V4(ip) => format!("tcp://[::ffff:{ip}]:{}", address.port()),
        IpAddr::V6(ip) => format!("tcp://[{ip}]:{}", address.port()),
    };
    let publisher = json!({
        "enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events",
        "endpoint": bound(spec.events), "replay_endpoint": bound(spec.replay),
    });
    let mut add = |more: &[&str]| spec.arguments.extend(more.iter().map(ToString::to_string));
    add(&["serve", &arguments.model, "--served-model-name", name]);
    add(&["--host", &arguments.host.to_string(), "--port", &spec.http.port().to_string()]);
    if let Some(size) = arguments.block_size {
        add(&["--block-size", &size.to_string()]);
    }
    if arguments.gpus_per_worker > 1 {
        add(&["--tensor-parallel-size", &arguments.gpus_per_worker.to_string()]);
    }
    // Without the latter an answer does not tell how much of its prompt was cached.
    add(&["--enable-prefix-caching", "--enable-prompt-tokens-details"]);
    add(&["--kv-events-config", &publisher.to_string()]);
}

/// The options that docker-compose.yml's profile trtllm has.
fn trtllm(arguments: &Arguments, name: &str, spec: &mut Spec) {
    let options = json!({
        "kv_cache_config": {
            "enable_block_reuse": true, "enable_partial_reuse": false,
            "tokens_per_block": arguments.block_size.unwrap_or(TRTLLM_BLOCK),
            "event_buffer_max_size": 16384,
        },
        "kv_events_config": {
            "enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events",
            "endpoint": format!("tcp://{}", spec.events),
            "replay_endpoint": format!("tcp://{}", spec.replay),
            "buffer_steps": 10000, "hwm": 100_000,
        },
        "enable_iter_perf_stats": true, "return_perf_metrics": true,
    });
    // JSON is YAML; the port makes the name one that nobody else has while it listens.
    let file = std::env::temp_dir().join(format!("warmpath-trtllm-{}.yaml", spec.http.port()));
    let mut add = |more: &[&str]| spec.arguments.extend(more.iter().map(ToString::to_string));
    add(&[&arguments.model, "--served_model_name", name]);
    add(&["--host", &arguments.host.to_string(), "--port", &spec.http.port().to_string()]);
    if arguments.gpus_per_worker > 1 {
        add(&["--tp_size", &arguments.gpus_per_worker.to_string()]);
    }
    add(&["--extra_llm_api_options", &file.to_string_lossy()]);
    spec.options = Some((file, options.to_string()));
}

/// The workers as a configuration of the indexer.
pub(super) fn list(arguments: &Arguments, specs: &[Spec]) -> String {
    let name = served_name(arguments);
    let mut model = json!({ "name": name });
    if let Some(path) = folder(arguments) {
        model["path"] = json!(path.canonicalize().unwrap_or(path));
    }
    let size = match arguments.engine {
        Kind::Vllm => arguments.block_size,
        Kind::Trtllm => Some(arguments.block_size.unwrap_or(TRTLLM_BLOCK)),
    };
    if let Some(size) = size {
        model["block_size"] = json!(size);
    }
    // Flow mappings of YAML are JSON.
    let mut list = format!("models:\n- {model}\nworkers:\n");
    for spec in specs {
        let _ = writeln!(list, "- {}", entry(arguments.engine, &name, spec));
    }
    list
}

fn entry(kind: Kind, model: &str, spec: &Spec) -> Value {
    // Who listens on every address is reached on this one.
    let reached = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    };
    let http = reached(spec.http);
    let page = match kind {
        Kind::Vllm => "/metrics",
        Kind::Trtllm => "/prometheus/metrics",
    };
    json!({
        "id": spec.id.to_string(),
        "model": model,
        "endpoint": http.to_string(),
        "events": {
            "endpoint": format!("tcp://{}", reached(spec.events)),
            "replay": format!("tcp://{}", reached(spec.replay)),
        },
        "load": { "prometheus": format!("http://{http}{page}") },
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &str) -> Arguments {
        let words = ["launch"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap().arguments
    }

    #[test]
    fn vllm_is_started_on_the_seeds_ports_and_the_rest_of_the_line_is_its_own() {
        let arguments = arguments(
            "--model org/name --num-workers 2 --block-size 64 --dry-run -- --max-num-seqs 8",
        );
        let specs = specs(&arguments).unwrap();
        let second = &specs[1];
        assert_eq!(second.http.to_string(), "127.0.0.1:8101");
        assert_eq!(second.events.port(), 5558);
        assert_eq!(second.replay.port(), 5758);
        let line = second.shell();
        assert!(line.contains("vllm serve org/name --served-model-name org/name"), "{line}");
        assert!(line.contains("--port 8101 --block-size 64 --enable-prefix-caching"), "{line}");
        assert!(line.contains(r#""endpoint":"tcp://[::ffff:127.0.0.1]:5558""#), "{line}");
        assert!(line.ends_with("--max-num-seqs 8"), "{line}");
    }

    #[test]
    fn trtllm_takes_its_options_from_a_file_and_has_blocks_of_32() {
        let arguments =
            arguments("--model m --engine trtllm --num-workers 1 --host 0.0.0.0 --dry-run");
        let specs = specs(&arguments).unwrap();
        let (file, options) = specs[0].options.as_ref().unwrap();
        assert!(specs[0].shell().contains(&format!("--extra_llm_api_options {}", file.display())));
        let options: Value = serde_json::from_str(options).unwrap();
        assert_eq!(options["kv_cache_config"]["tokens_per_block"], 32);
        assert_eq!(options["kv_events_config"]["endpoint"], "tcp://0.0.0.0:5557");
        let list = list(&arguments, &specs);
        assert!(list.contains(r#""endpoint":"127.0.0.1:8100""#), "{list}");
        assert!(list.contains(r#""block_size":32"#), "{list}");
    }

    #[test]
    fn the_list_is_a_configuration_of_the_indexer() {
        let arguments = arguments("--model org/name --num-workers 3 --dry-run");
        let list = list(&arguments, &specs(&arguments).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workers.yaml");
        std::fs::write(&path, list).unwrap();
        let flags = crate::config::Flags { config: Some(path), ..Default::default() };
        let config = crate::config::Config::load(&flags).unwrap();
        assert_eq!(config.workers.len(), 3);
    }

    #[test]
    fn gpus_are_taken_in_order_of_what_is_visible() {
        assert_eq!(gpus(1, 2, None).unwrap(), "2,3");
        assert_eq!(gpus(1, 1, Some("4, 5")).unwrap(), "5");
        let error = gpus(2, 1, Some("4,5")).unwrap_err().to_string();
        assert!(error.contains("--gpus-per-worker"), "{error}");
    }
}
