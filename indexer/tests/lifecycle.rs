//! What is told of requests after their decision, and what decides the next.

mod common;

use axum::http::StatusCode;
use common::{Indexer, config, quiet, request, tokens};
use serde_json::{Value, json};
use warmpath_protocol::{LifecycleAnswer, LifecycleEvent, LifecycleReport};

async fn route(indexer: &Indexer, id: &str, pin: &str) {
    let mut asked = request(&tokens(40), 16);
    asked["request_id"] = json!(id);
    asked["pin"] = json!(pin);
    let (status, body) = indexer.post("/v1/route", &asked).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn in_flight(indexer: &Indexer, worker: usize) -> Value {
    let (_, list) = indexer.get("/v1/workers").await;
    list["workers"][worker]["ranks"][0]["in_flight"].clone()
}

async fn fleet() -> Indexer {
    let mut config = config(&[quiet("0", 8100), quiet("1", 8101)]);
    config["models"][0]["block_size"] = json!(16);
    Indexer::start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_followed_in_both_encodings() {
    let indexer = fleet().await;
    route(&indexer, "a", "0").await;
    route(&indexer, "b", "0").await;
    let now = in_flight(&indexer, 0).await;
    assert_eq!((&now["requests"], &now["blocks"]), (&json!(2.0), &json!(2)), "shared once");
    // The second prompt's two full blocks are about to be computed for the first.
    assert_eq!(now["prefill_tokens"], 40.0 + 8.0);

    let reports = json!([
        {"request_id": "a", "event": "first_token"},
        {"request_id": "nobody", "event": "done"},
        {"request_id": "a", "event": "output", "tokens": 12},
    ]);
    let (status, answer) = indexer.post("/v1/lifecycle", &reports).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"applied": 2, "unknown": ["nobody"]})));
    let now = in_flight(&indexer, 0).await;
    assert_eq!((&now["prefill_tokens"], &now["output_tokens"]), (&json!(8.0), &json!(12.0)));

    let done = LifecycleReport {
        request_id: "a".into(),
        event: LifecycleEvent::Done,
        tokens: Some(20),
        cached_tokens: Some(32),
    };
    let answer = indexer
        .client
        .post(indexer.url("/v1/lifecycle"))
        .header("content-type", "application/msgpack")
        .body(rmp_serde::to_vec_named(&vec![done]).unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "application/msgpack");
    let answer: LifecycleAnswer = rmp_serde::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer, LifecycleAnswer { applied: 1, unknown: Vec::new() });
    assert_eq!(in_flight(&indexer, 0).await["requests"], 1.0);
    assert_eq!(indexer.metric("warmpath_lifecycle_reports_total").await, 3.0);
    assert_eq!(indexer.metric("warmpath_lifecycle_unknown_total").await, 1.0);
    assert_eq!(indexer.metric("warmpath_book_cached_tokens_total").await, 32.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_can_not_be_read_changes_nothing() {
    let indexer = fleet().await;
    route(&indexer, "a", "0").await;
    for wrong in
        [json!({}), json!([{"request_id": "a"}]), json!([{"request_id": "a", "event": "ended"}])]
    {
        let (status, body) = indexer.post("/v1/lifecycle", &wrong).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!("bad_request"))
        );
    }
    assert_eq!(in_flight(&indexer, 0).await["requests"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn free_ends_a_request_of_the_seeds_clients() {
    let indexer = fleet().await;
    let asked = json!({"local_hashes": [1, 2], "num_tokens": 40, "request_id": "s-1"});
    let (_, best) = indexer.post("/find_best_worker", &asked).await;
    let worker = usize::try_from(best["worker_id"].as_u64().unwrap()).unwrap();
    assert_eq!(in_flight(&indexer, worker).await["requests"], 1.0);
    let free = json!({"request_id": "s-1"});
    let (status, body) = indexer.post("/free", &free).await;
    assert_eq!((status, body), (StatusCode::OK, json!({"status": "ok"})));
    let (status, body) = indexer.post("/free", &free).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    assert_eq!(in_flight(&indexer, worker).await["requests"], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_changed_while_requests_run() {
    let indexer = fleet().await;
    let (_, before) = indexer.get("/v1/policy").await;
    assert_eq!(before["policy"], "ttft");
    assert_eq!(before["policies"]["cost"]["host_cache_hit_weight"], 0.75);
    let change = json!({"policy": "cost", "policies": {"cost": {"temperature": 0.5}}});
    let answer = indexer.client.put(indexer.url("/v1/policy")).json(&change).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let (_, after) = indexer.get("/v1/policy").await;
    assert_eq!(
        (&after["policy"], &after["policies"]["cost"]["temperature"]),
        (&json!("cost"), &json!(0.5))
    );
    for wrong in [
        json!({"policy": "costs"}),
        json!({"policies": {"cost": {"temprature": 1}}}),
        json!({"policies": {"cost": {"temperature": -1}}}),
        json!({"policies": {"costs": {}}}),
    ] {
        let answer =
            indexer.client.put(indexer.url("/v1/policy")).json(&wrong).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(indexer.get("/v1/policy").await.1, after, "a refused change changes nothing");
    route(&indexer, "a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_that_can_not_be_kept_are_refused() {
    let indexer = fleet().await;
    for pin in ["9", "0:7"] {
        let mut asked = request(&tokens(40), 16);
        asked["pin"] = json!(pin);
        let (status, body) = indexer.post("/v1/route", &asked).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("pin_unavailable")),
            "{pin}"
        );
    }
    assert_eq!(in_flight(&indexer, 0).await["requests"], 0.0);
}
