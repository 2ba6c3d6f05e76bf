//! Busy workers over HTTP and over the stream's protocol.

mod common;

use std::time::Duration;

use common::{Indexer, config, quiet, request, tokens};
use serde_json::{Value, json};

async fn fleet(saturation: Value) -> Indexer {
    let mut config = config(&[quiet("0", 8100)]);
    config["models"][0]["block_size"] = json!(16);
    config["saturation"] = saturation;
    let indexer = Indexer::start(config).await;
    // Forty tokens to prefill: the only worker is busy now.
    let (status, body) = indexer.post("/v1/route", &asked("first")).await;
    assert_eq!(status, 200, "{body}");
    indexer
}

fn asked(id: &str) -> Value {
    let mut asked = request(&tokens(40), 16);
    asked["request_id"] = json!(id);
    asked["hashes"] = json!({"16": [id.len(), 2]});
    asked
}

fn waiting(indexer: &Indexer, id: &str) -> reqwest::RequestBuilder {
    indexer.client.post(indexer.url("/v1/route")).header("prefer", "wait=60").json(&asked(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_when_to_come_again() {
    let saturation =
        json!({"active_prefill_tokens_threshold": 10, "refuse": true, "retry_after_s": 5});
    let indexer = fleet(saturation).await;
    let answer = waiting(&indexer, "second").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "saturated");
    assert_eq!(body["error"]["retry_after"], 5);
    let best = json!({"local_hashes": [1], "num_tokens": 40});
    assert_eq!(indexer.post("/find_best_worker", &best).await.0, 503);
    let (_, body) = indexer.post("/v1/route/batch", &json!({"requests": [asked("b")]})).await;
    assert_eq!(body["decisions"][0]["error"]["code"], "saturated");
    let refused = "warmpath_route_errors_total{code=\"saturated\"}";
    assert_eq!(indexer.metric(refused).await, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_as_soon_as_a_worker_is_free() {
    let saturation = json!({"active_prefill_tokens_threshold": 10, "hold_ms": 60_000});
    let indexer = fleet(saturation).await;
    let held = tokio::spawn(waiting(&indexer, "second").send());
    until_held(&indexer, 1.0).await;
    let reports = json!([{"request_id": "first", "event": "first_token"}]);
    indexer.post("/v1/lifecycle", &reports).await;
    let answer = held.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(indexer.metric("warmpath_holds_total{ending=\"free\"}").await, 1.0);
    // Who does not say that they wait do not.
    assert_eq!(indexer.post("/v1/route", &asked("third")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_place() {
    let saturation = json!({"active_prefill_tokens_threshold": 10, "hold_ms": 60_000});
    let indexer = fleet(saturation).await;
    let held = waiting(&indexer, "second").timeout(Duration::from_millis(200)).send();
    assert!(held.await.unwrap_err().is_timeout());
    until_held(&indexer, 0.0).await;
    let (_, list) = indexer.get("/v1/workers").await;
    assert_eq!(list["workers"][0]["ranks"][0]["in_flight"]["requests"], 1.0, "the first alone");
    assert_eq!(indexer.metric("warmpath_holds_total{ending=\"gone\"}").await, 1.0);
}

async fn until_held(indexer: &Indexer, requests: f64) {
    for _ in 0..400 {
        if indexer.metric("warmpath_held_requests").await == requests {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never {requests} held");
}
