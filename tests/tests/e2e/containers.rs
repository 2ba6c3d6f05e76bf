//! docker-compose.yml and Dockerfile, as far as they can be checked without an
//! engine: names, files, flags, addresses, configurations.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use warmpath_testbed::build::{self, Profile};
use warmpath_testbed::envoy::{Config, read_yaml};

fn compose() -> Result<Value> {
    let mut tree = read_yaml("docker-compose.yml".as_ref())?;
    interpolate(&mut tree);
    Ok(tree)
}

/// Puts the defaults of `${NAME:-default}` in.
fn interpolate(value: &mut Value) {
    match value {
        Value::String(text) => {
            while let Some(start) = text.find("${") {
                let end = start + text[start..].find('}').expect("a closing brace");
                let default =
                    text[start + 2..end].split_once(":-").expect("a default").1.to_owned();
                text.replace_range(start..=end, &default);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(interpolate),
        Value::Object(fields) => fields.values_mut().for_each(interpolate),
        _ => {}
    }
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().into_iter().flatten()
}

/// The services of one profile.
fn profile<'tree>(compose: &'tree Value, name: &str) -> Vec<(&'tree String, &'tree Value)> {
    let of = |service: &Value| {
        service["profiles"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
    };
    services(compose).filter(|(_, service)| of(service)).collect()
}

fn arguments(service: &Value) -> impl Iterator<Item = &str> {
    service["command"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn argument<'tree>(service: &'tree Value, flag: &str) -> Option<&'tree str> {
    arguments(service).find_map(|one| one.strip_prefix(flag)?.strip_prefix('='))
}

#[test]
fn every_flag_of_ours_is_in_the_binarys_own_help() -> Result<()> {
    let compose = compose()?;
    let mut checked = 0;
    for (target, binary) in
        [("indexer", build::indexer(Profile::Dev)?), ("simworker", build::simworker()?)]
    {
        let help = Command::new(binary).arg("--help").output()?;
        let help = String::from_utf8(help.stdout)?;
        let known: BTreeSet<&str> = help
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with("--"))
            .collect();
        for (name, service) in services(&compose) {
            if service["build"]["target"] != target {
                continue;
            }
            for argument in arguments(service) {
                let flag = argument.split('=').next().unwrap_or_default();
                assert!(known.contains(flag), "{name}: {flag} is not in --help");
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} flags were found");
    Ok(())
}

#[test]
fn every_build_target_is_a_stage_and_every_source_exists() -> Result<()> {
    let dockerfile = std::fs::read_to_string(build::workspace_root().join("Dockerfile"))?;
    let stages: BTreeSet<&str> = dockerfile
        .lines()
        .filter(|line| line.starts_with("FROM "))
        .filter_map(|line| line.rsplit_once(" AS ").map(|(_, stage)| stage))
        .collect();
    for (name, service) in services(&compose()?) {
        if let Some(target) = service["build"]["target"].as_str() {
            assert!(stages.contains(target), "{name}: no stage {target}");
        }
    }
    assert!(stages.contains("filter"), "{stages:?}");
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY ")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        if words[0].starts_with("--from=") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            assert!(build::workspace_root().join(source).exists(), "{line}");
        }
    }
    Ok(())
}

#[test]
fn every_mounted_file_is_in_the_repository() -> Result<()> {
    let mut mounts = 0;
    for (name, service) in services(&compose()?) {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().and_then(|volume| volume.split(':').next());
            let source = source.with_context(|| format!("{name}: {volume}"))?;
            assert!(build::workspace_root().join(source).exists(), "{name}: no {source}");
            mounts += 1;
        }
    }
    assert!(mounts > 0);
    Ok(())
}

#[test]
fn every_profile_has_envoy_an_indexer_and_four_workers_on_the_bootstraps_ports() -> Result<()> {
    let compose = compose()?;
    let bootstrap = Config::read("envoy/bootstrap.yaml")?;
    let text = bootstrap.value().to_string();
    let ports: BTreeSet<u64> = (8100..8104).collect();
    for port in &ports {
        assert!(text.contains(&format!("\"port_value\":{port}")), "{port}");
    }
    for name in ["sim", "vllm", "trtllm"] {
        let services = profile(&compose, name);
        let count = |what: &str| services.iter().filter(|(name, _)| name.starts_with(what)).count();
        assert_eq!((count("pod"), count("envoy"), count("indexer-")), (1, 1, 1), "{name}");
        // One network: otherwise the loopback addresses mean different things.
        for (service, fields) in services.iter().filter(|(service, _)| *service != "pod") {
            assert_eq!(fields["network_mode"], "service:pod", "{service}");
        }
        let served: BTreeSet<u64> = match name {
            "sim" => {
                let workers = services.iter().find(|(name, _)| *name == "simworkers");
                let workers = workers.context("no simworkers")?.1;
                let number = |flag| argument(workers, flag).and_then(|text| text.parse().ok());
                let base = number("--base-http-port").unwrap_or(0);
                (base..base + number("--num-workers").unwrap_or(0)).collect()
            }
            _ => services
                .iter()
                .filter_map(|(_, service)| argument(service, "--port")?.parse().ok())
                .collect(),
        };
        assert_eq!(served, ports, "{name}");
    }
    Ok(())
}

#[test]
fn engines_publish_events_where_the_indexer_listens() -> Result<()> {
    let compose = compose()?;
    let indexer = &compose["services"]["indexer-vllm"];
    let base: u16 = argument(indexer, "--base-kv-events-port").context("no port")?.parse()?;
    for worker in 0..4 {
        let expected = |port: u16| format!("tcp://*:{}", port + worker);
        let service = &compose["services"][format!("vllm-{worker}")];
        let events = argument(service, "--kv-events-config").context("no events")?;
        let events: Value = serde_json::from_str(events)?;
        let content = compose["configs"][format!("trtllm-{worker}")]["content"].as_str();
        let options: Value = serde_saphyr::from_str(content.context("no options")?)?;
        for events in [&events, &options["kv_events_config"]] {
            assert_eq!(events["endpoint"], expected(base));
            assert_eq!(events["replay_endpoint"], expected(base + 200));
            assert_eq!(events["enable_kv_cache_events"], true);
            assert_eq!(events["publisher"], "zmq");
        }
        assert!(options["kv_cache_config"]["event_buffer_max_size"].as_u64() > Some(0));
        let block = argument(service, "--block-size").context("no block size")?;
        assert_eq!(Some(block), argument(indexer, "--block-size"));
    }
    Ok(())
}

#[test]
fn the_indexer_starts_with_the_trtllm_profiles_configuration() -> Result<()> {
    let compose = compose()?;
    let content = compose["configs"]["indexer-trtllm"]["content"].as_str().context("no file")?;
    let folder = TempDir::new()?;
    let file = folder.path().join("indexer.yaml");
    let model = build::workspace_root().join("tests/models/tiny");
    let content = content.replace("path: /model", &format!("path: {}", model.display()));
    // A port that is taken ends it after the configuration was accepted.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let content = content.replace("0.0.0.0:7000", &taken.local_addr()?.to_string());
    std::fs::write(&file, content)?;
    let error = run_to_its_end(&file)?;
    assert!(error.contains("in use"), "{error}");
    std::fs::write(&file, "models: 3\nworkerz: []\n")?;
    let error = run_to_its_end(&file)?;
    assert!(error.contains("workerz") && error.contains("models"), "{error}");
    Ok(())
}

/// What the indexer prints when it does not start.
fn run_to_its_end(config: &Path) -> Result<String> {
    let output =
        Command::new(build::indexer(Profile::Dev)?).arg("--config").arg(config).output()?;
    assert!(!output.status.success());
    Ok(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
