use clap::Parser;

use super::*;

/// The flags, as the command line would give them.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn flags(line: &str) -> Flags {
    Line::parse_from(std::iter::once("x").chain(line.split_whitespace())).flags
}

fn load(line: &str, file: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warmpath.yaml");
    std::fs::write(&path, file).unwrap();
    let mut flags = flags(line);
    flags.config = Some(path);
    Config::load(&flags)
}

const WHOLE: &str = r#"
listen: 127.0.0.1:7000
unix_socket: /run/warmpath/indexer.sock
admin: 127.0.0.1:7001
policy: logit
models:
- name: tiny
  aliases: [small]
  adapters: [tiny-lora]
  block_size: 16
workers:
- id: "0"
  model: tiny
  endpoint: 127.0.0.1:8100
  cluster: worker-0
  ranks: 2
  events: {endpoint: "tcp://127.0.0.1:5557", replay: "tcp://127.0.0.1:5757", bind: false, topic: ""}
  load: {zmq: "tcp://127.0.0.1:5657", prometheus: "http://127.0.0.1:8100/metrics", interval_ms: 500}
  health: {path: /health, interval_ms: 1000}
- id: 1
  endpoint: 127.0.0.1:8101
"#;

#[test]
fn a_whole_file_is_read() {
    let config = Config::from_yaml(WHOLE).unwrap();
    assert_eq!(config.listen, "127.0.0.1:7000".parse().unwrap());
    assert_eq!(config.unix_socket, Some("/run/warmpath/indexer.sock".into()));
    assert_eq!(config.models[0].adapters, ["tiny-lora"]);
    let [first, second] = config.workers.as_slice() else { panic!("two workers") };
    assert_eq!(first.ranks, 2);
    let events = first.events.as_ref().unwrap();
    assert_eq!(events.replay.as_deref(), Some("tcp://127.0.0.1:5757"));
    assert_eq!(first.load.interval_ms, 500);
    assert_eq!((second.id.as_str(), second.cluster.as_str()), ("1", "worker-1"));
    assert_eq!(second.model, "tiny", "the only model need not be named");
    assert_eq!(second.health, HealthConfig::default());
    assert_eq!(second.events, None);
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = Config::from_yaml("# nothing\n").unwrap();
    assert_eq!(config, Config::from_yaml("").unwrap());
    assert_eq!(config.admin, "127.0.0.1:7001".parse().unwrap());
    assert_eq!((config.policy.policy.as_str(), config.decisions), ("ttft", 1024));
}

#[test]
fn every_error_is_in_one_message() {
    let errors = Config::from_yaml(
        r#"
lisen: 127.0.0.1:7000
admin: nowhere
policy: logits
load_stale_ms: soon
models:
- {name: tiny, block_size: 0}
- {name: tiny, path: /no/such/folder}
- [tiny]
- {name: ""}
workers:
- {id: a, model: tyny, endpoint: 127.0.0.1}
- {id: a, model: tiny, endpoint: "127.0.0.1:8100", ranks: 10, events: {endpoint: "tcp://127.0.0.1:65530", bnd: true}}
- {id: "b c", model: tiny, endpoint: "127.0.0.1:8100", load: {prometheus: "https://x/metrics"}, health: {path: health}}
- {model: tiny, events: {}}
- {id: wörker, model: tiny, endpoint: "127.0.0.1:8101", cluster: "of its own"}
- {id: "", model: "", endpoint: ""}
- {id: t, model: tiny, endpoint: "127.0.0.1:8102", events: {endpoint: "http://", replay: "tcp://127.0.0.1:1"}}
"#,
    )
    .unwrap_err();
    let message = errors.to_string();
    for expected in [
        "lisen: unknown field; did you mean \"listen\"?",
        "admin: expected an address ip:port, found \"nowhere\"",
        "policy: no policy \"logits\"; did you mean \"logit\"?",
        "load_stale_ms: expected a whole number, found a text",
        "models[0].block_size: expected 1 to 65536, found 0",
        "models[1]: the name \"tiny\" is taken",
        "models[1].path: /no/such/folder is not a folder",
        "models[2]: expected a mapping, found a list",
        "workers[0].model: no model \"tyny\"; did you mean \"tiny\"?",
        "workers[0].endpoint: expected ip:port, found \"127.0.0.1\"",
        "workers[1].id: the id \"a\" is taken",
        "workers[1].events.endpoint: expected tcp://host:port, with 9 more above it",
        "workers[1].events.bnd: unknown field; did you mean \"bind\"?",
        "workers[2].id: \"b c\" has blanks",
        "workers[2].endpoint: another worker has 127.0.0.1:8100 already",
        "workers[2].load.prometheus: expected http://host:port/path",
        "workers[2].health.path: expected a path from /",
        "workers[3].id: is required",
        "workers[3].endpoint: is required",
        "workers[3].events.endpoint: is required",
        "workers[4].id: \"wörker\" has blanks, commas, slashes or letters beyond ASCII",
        "workers[4].cluster: expected a name without blanks",
        "models[3].name: is required",
        "workers[5].id: is required",
        "workers[5].model: is required",
        "workers[5].endpoint: is required",
        "workers[6].events.endpoint: expected http://host:port/path, found \"http://\"",
        "workers[6].events: replay, bind and topic are for ZMQ",
    ] {
        assert!(message.contains(expected), "missing {expected:?} in\n{message}");
    }
    assert_eq!(errors.0.len(), 28, "{message}");
}

#[test]
fn what_is_not_yaml_says_so() {
    let message = Config::from_yaml("models: [").unwrap_err().to_string();
    assert!(message.contains("not YAML"), "{message}");
    let message = Config::from_yaml("- a list").unwrap_err().to_string();
    assert!(message.contains("the configuration: expected a mapping"), "{message}");
    let message = Config::load(&flags("--config /no/such/file.yaml")).unwrap_err().to_string();
    assert!(message.contains("/no/such/file.yaml: can not be read"), "{message}");
}

#[test]
fn the_seeds_flags_make_their_workers() {
    let config = Config::load(&flags(
        "--num-workers 2 --block-size 64 --base-kv-events-port 6000 --base-metrics-port 6100 \
         --router-port 7100 --served-model-name m",
    ))
    .unwrap();
    assert_eq!(config.listen, "127.0.0.1:7100".parse().unwrap());
    assert_eq!(config.admin, "127.0.0.1:7101".parse().unwrap());
    assert_eq!(config.models[0].name, "m");
    assert_eq!(config.models[0].block_size, Some(64));
    let second = &config.workers[1];
    assert_eq!((second.id.as_str(), second.endpoint.as_str()), ("1", "127.0.0.1:8101"));
    let events = second.events.as_ref().unwrap();
    assert_eq!(events.endpoint, "tcp://127.0.0.1:6001");
    assert_eq!(events.replay.as_deref(), Some("tcp://127.0.0.1:6201"));
    assert_eq!(second.load.zmq.as_deref(), Some("tcp://127.0.0.1:6101"));
    assert_eq!(second.load.prometheus.as_deref(), Some("http://127.0.0.1:8101/metrics"));
}

#[test]
fn without_a_name_the_model_is_called_default() {
    let config = Config::load(&flags("--num-workers 1")).unwrap();
    assert_eq!(config.models[0].name, "default");
    assert_eq!(config.workers[0].model, "default");
}

#[test]
fn a_worker_of_the_file_wins_over_a_made_one_field_by_field() {
    let file = "models: [{name: m}]\nworkers:\n- {id: 1, endpoint: \"10.0.0.1:80\"}\n- {id: x, endpoint: \"10.0.0.2:80\"}\n";
    let config = load("--num-workers 2", file).unwrap();
    let at: Vec<_> =
        config.workers.iter().map(|one| (one.id.as_str(), one.endpoint.as_str())).collect();
    assert_eq!(at, [("0", "127.0.0.1:8100"), ("1", "10.0.0.1:80"), ("x", "10.0.0.2:80")]);
    assert!(config.workers[1].events.is_some(), "what the file does not say is made");
    assert!(config.workers[2].events.is_none());
}

#[test]
fn flags_win_over_the_file() {
    let file = "listen: 0.0.0.0:7500\nadmin: 0.0.0.0:9000\nmodels: [{name: m, block_size: 16}]\n";
    let config = load("--router-port 7600 --block-size 32", file).unwrap();
    assert_eq!(config.listen, "0.0.0.0:7600".parse().unwrap());
    assert_eq!(config.admin, "0.0.0.0:9000".parse().unwrap());
    assert_eq!(config.models[0].block_size, Some(32));
    let config = load("--host 127.0.0.1", file).unwrap();
    assert_eq!(config.listen, "127.0.0.1:7500".parse().unwrap());
    assert_eq!(config.admin, "127.0.0.1:9000".parse().unwrap());
}

#[test]
fn predictions_have_a_section_and_dynamos_flags() {
    let config = Config::from_yaml("predict: {ttl_ms: 5000}\nkv_events: false\n").unwrap();
    assert_eq!(config.predict, PredictConfig { ttl_ms: 5000, beside_events_ms: 0 });
    assert!(!config.kv_events);
    let config = load("--kv-events --router-predicted-ttl-secs 1.5", "kv_events: false").unwrap();
    assert_eq!((config.kv_events, config.predict.beside_events_ms), (true, 1500));
    let config = Config::load(&flags("--no-kv-events --router-ttl-secs 60")).unwrap();
    assert_eq!((config.kv_events, config.predict.ttl_ms), (false, 60_000));
    let errors = load("--router-ttl-secs=-1", "predict: {ttl: 5}").unwrap_err().to_string();
    assert!(errors.contains("predict.ttl_ms") && errors.contains("predict.ttl: "), "{errors}");
}

#[test]
fn made_ports_past_the_last_are_errors_not_wraps() {
    let message =
        Config::load(&flags("--num-workers 3 --base-http-port 65534")).unwrap_err().to_string();
    assert!(message.contains("workers[2].endpoint"), "{message}");
}

#[test]
fn policies_and_the_book_are_read_and_checked() {
    let config = Config::from_yaml(
        "policy: cost\npolicy_seed: 7\npolicies: {cost: {temperature: 0.5}, two-tier: {cache_threshold: 1}}\n\
         book: {track_output_blocks: true, expiry_ms: 1000}\n",
    )
    .unwrap();
    assert_eq!((config.policy.policy.as_str(), config.policy.seed), ("cost", Some(7)));
    assert_eq!(config.policy.cost.temperature, 0.5);
    assert_eq!(config.policy.cost.overlap_score_credit, 1.0);
    assert_eq!(config.policy.two_tier.cache_threshold, 1.0);
    assert!(config.book.track_output_blocks && config.book.track_active_blocks);
    assert_eq!(config.book.expiry_ms, 1000);
    let errors = Config::from_yaml(
        "policies: {cost: {temprature: 1, overlap_score_credit: -1, prefill_load_scale: many}, twotier: {}}\n\
         book: {expiry: 5}\n",
    )
    .unwrap_err()
    .to_string();
    for expected in [
        "policies.cost.temprature: unknown field; did you mean \"temperature\"?",
        "policies.cost.overlap_score_credit: expected a number from 0 on, found -1",
        "policies.cost.prefill_load_scale: expected a number from 0 on",
        "policies.twotier: unknown field; did you mean \"two-tier\"?",
        "book.expiry: unknown field; did you mean \"expiry_ms\"?",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
}

#[test]
fn flags_of_dynamos_router_keep_their_meaning() {
    let read = |line: &str| Config::load(&flags(line)).unwrap();
    let config =
        read("--kv-overlap-score-weight 2 --router-temperature 0.5 --no-track-active-blocks");
    assert_eq!(config.policy.policy, "cost");
    assert_eq!((config.policy.cost.prefill_load_scale, config.policy.cost.temperature), (2.0, 0.5));
    assert!(!config.book.track_active_blocks);
    let config = read("--router-kv-overlap-score-weight 0 --policy lmetric");
    assert_eq!(
        (config.policy.policy.as_str(), config.policy.cost.overlap_score_credit),
        ("lmetric", 0.0)
    );
    assert_eq!(read("--router-replica-sync"), read(""));
    let kept =
        read("--router-reset-states --router-snapshot-threshold 7 --index-snapshot /tmp/index");
    assert_eq!((kept.index.snapshot_threshold, kept.index.reset), (7, true));
    assert_eq!(kept.index.snapshot.as_deref(), Some(Path::new("/tmp/index")));
    assert_eq!(kept.index.max_bytes, read("").index.max_bytes);
}
