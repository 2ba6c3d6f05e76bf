//! What the doctor finds, at an engine as it should be and where there is none.

mod common;

use common::{Engine, config, quiet};
use serde_json::json;
use warmpath_indexer::config::Config;
use warmpath_indexer::doctor::examine;

/// Nobody listens there: the port was bound once and is free again.
fn nobody() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    free.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_as_it_should_be_is_found_well() {
    let engine = Engine::start().await;
    let mut worker = engine.worker("0");
    worker["load"] = json!({"prometheus": format!("http://{}/metrics", engine.http)});
    let config = Config::from_tree(&config(&[worker])).unwrap();
    let findings = examine(&config).await;
    let looked_at: Vec<_> = findings.iter().map(|finding| finding.what).collect();
    assert_eq!(looked_at, ["health", "events", "load"]);
    assert!(findings.iter().all(|finding| finding.found.is_ok()), "{findings:?}");
    let load = findings[2].to_string();
    assert_eq!(load, "ok    worker 0 load: rank 0: 7 waiting, 3 running, cache 50 %");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_a_remedy() {
    let mut absent = quiet("1", 8101);
    absent["endpoint"] = json!(nobody());
    absent["events"] = json!({
        "endpoint": format!("tcp://{}", nobody()), "replay": format!("tcp://{}", nobody()),
    });
    absent["load"] = json!({
        "prometheus": format!("http://{}/metrics", nobody()), "zmq": format!("tcp://{}", nobody()),
    });
    let mut polled = quiet("2", 8102);
    polled["endpoint"] = json!(nobody());
    polled["events"] = json!({"endpoint": format!("http://{}/kv_cache_events", nobody())});
    let config = Config::from_tree(&config(&[absent, polled])).unwrap();
    let findings = examine(&config).await;
    let looked_at: Vec<_> = findings.iter().map(|finding| finding.what).collect();
    assert_eq!(looked_at, ["health", "events", "replay", "load", "load", "health", "events"]);
    assert!(findings.iter().all(|finding| finding.found.is_err()), "{findings:?}");
    assert!(findings[0].to_string().starts_with("WRONG worker 1 health: no answer at http://"));
    assert!(findings[1].to_string().contains("start the engine with KV events"));
}
