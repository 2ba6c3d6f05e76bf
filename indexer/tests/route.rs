//! Decisions over HTTP: encodings, choices, refusals.

mod common;

use axum::http::StatusCode;
use common::{Indexer, config, quiet, request, tokens};
use serde_json::{Value, json};
use warmpath_protocol::{Decision, ErrorBody, RouteRequest};

async fn two_quiet_workers() -> Indexer {
    Indexer::start(config(&[quiet("0", 8100), quiet("1", 8101)])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_encodings_get_an_answer_in_their_own() {
    let indexer = two_quiet_workers().await;
    let asked = request(&tokens(40), 16);
    let (status, decision) = indexer.post("/v1/route", &asked).await;
    assert_eq!(status, StatusCode::OK, "{decision}");
    assert_eq!(decision["reason"], "load");
    assert_eq!(decision["fallbacks"].as_array().unwrap().len(), 1);

    let asked: RouteRequest = serde_json::from_value(asked).unwrap();
    let packed = rmp_serde::to_vec_named(&asked).unwrap();
    let post = || indexer.client.post(indexer.url("/v1/route")).body(packed.clone());
    let answer = post().header("content-type", "application/msgpack").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/msgpack");
    let decision: Decision = rmp_serde::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(decision.fallbacks.len(), 1);

    let answer = post()
        .header("content-type", "application/msgpack")
        .header("accept", "application/json")
        .send()
        .await
        .unwrap();
    let decision: Value = answer.json().await.unwrap();
    assert_eq!(decision["reason"], "load");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_one_form_in_the_requests_encoding() {
    let indexer = two_quiet_workers().await;
    let refused = async |change: Value| {
        let mut asked = request(&tokens(40), 16);
        asked.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, body) = indexer.post("/v1/route", &asked).await;
        (status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(json!({"model": "x"})).await, (404, "unknown_model".into()));
    assert_eq!(refused(json!({"pin": "7"})).await, (422, "pin_unavailable".into()));
    assert_eq!(refused(json!({"pin": "0:7"})).await, (422, "pin_unavailable".into()));
    assert_eq!(refused(json!({"pin": ""})).await, (400, "bad_request".into()));
    assert_eq!(refused(json!({"policy": "dice"})).await, (422, "unknown_policy".into()));
    assert_eq!(refused(json!({"exclude": ["0", "1"]})).await, (503, "no_worker".into()));
    assert_eq!(refused(json!({"hashes": {"x": []}})).await, (400, "bad_request".into()));
    assert_eq!(refused(json!({"hashes": {"16": [1.5]}})).await, (400, "bad_request".into()));

    let answer = indexer
        .client
        .post(indexer.url("/v1/route"))
        .header("content-type", "application/msgpack")
        .body("not it")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body: ErrorBody = rmp_serde::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body.error.code, "bad_request");
    assert_eq!(indexer.metric("warmpath_route_errors_total{code=\"no_worker\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_and_exclusions_are_kept() {
    let indexer = two_quiet_workers().await;
    for (change, worker, reason) in [
        (json!({"pin": "1"}), "1", "pinned"),
        (json!({"pin": "0:0"}), "0", "pinned"),
        (json!({"exclude": ["0"]}), "1", "load"),
        (json!({"model": "m-alias", "exclude": ["1"]}), "0", "load"),
    ] {
        let mut asked = request(&tokens(40), 16);
        asked.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (_, decision) = indexer.post("/v1/route", &asked).await;
        assert_eq!((&decision["worker"], &decision["reason"]), (&json!(worker), &json!(reason)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_explained_and_remembered() {
    let indexer = two_quiet_workers().await;
    let mut asked = request(&tokens(40), 16);
    asked["explain"] = json!(true);
    asked["token_digest"] = json!("18446744073709551615");
    let (_, decision) = indexer.post("/v1/route", &asked).await;
    assert_eq!(decision["scores"].as_array().unwrap().len(), 2);

    let (_, record) = indexer.get("/v1/decisions/r-1").await;
    assert_eq!(record["decision"]["worker"], decision["worker"]);
    assert_eq!(record["token_digest"], u64::MAX);
    assert_eq!(record["tokens"], 40);
    assert!(record["decision_us"].as_f64().unwrap() > 0.0);
    let (_, list) = indexer.get("/v1/decisions?last=5").await;
    assert_eq!(list["decisions"].as_array().unwrap().len(), 1);
    assert_eq!(indexer.get("/v1/decisions/other").await.0, StatusCode::NOT_FOUND);
    assert_eq!(indexer.get("/v1/decisions?last=x").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_without_workers_says_so() {
    let indexer = Indexer::start(config(&[])).await;
    let (status, body) = indexer.post("/v1/route", &request(&tokens(40), 16)).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (503, &json!("no_worker")));
    let (status, _) =
        indexer.post("/find_best_worker", &json!({"local_hashes": [], "num_tokens": 1})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_wrong_methods_and_large_bodies_are_refused_in_json() {
    let mut config = config(&[quiet("0", 8100)]);
    config["max_body_bytes"] = json!(4096);
    let indexer = Indexer::start(config).await;
    let (status, body) = indexer.get("/v2/route").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!("not_found")));
    let (status, body) = indexer.get("/v1/decisions/%ff").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (400, &json!("bad_request")));
    let (status, body) = indexer.get("/v1/route").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (405, &json!("bad_request")));
    let (status, body) = indexer.post("/v1/route", &request(&tokens(32_000), 16)).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &json!("bad_request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn find_best_worker_answers_as_the_seeds_do() {
    let indexer = Indexer::start(config(&[quiet("3", 8100)])).await;
    let asked = json!({"local_hashes": [1, 2], "num_tokens": 40});
    let (status, body) = indexer.post("/find_best_worker", &asked).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, json!({"worker_id": 3, "overlap": 0.0, "matched_blocks": 0}));
    let (_, body) =
        indexer.post("/find_best_worker", &json!({"local_hashes": [], "num_tokens": 1})).await;
    assert_eq!(body["worker_id"], 3, "no hashes are legal");
    for wrong in [0, -1] {
        let asked = json!({"local_hashes": [], "num_tokens": wrong});
        let (status, body) = indexer.post("/find_best_worker", &asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"]["message"], "num_tokens must be positive");
    }
    for wrong in [
        json!({}),
        json!({"token_ids": []}),
        json!({"local_hashes": [1]}),
        json!({"token_ids": [1], "local_hashes": [1], "num_tokens": 1}),
    ] {
        let (status, body) = indexer.post("/find_best_worker", &wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong} {body}");
    }
    let named = Indexer::start(config(&[quiet("gpu-a", 8100)])).await;
    let (_, body) = named.post("/find_best_worker", &asked).await;
    assert_eq!(body["worker_id"], "gpu-a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_equal_prefixes_together_and_spreads_the_rest() {
    let mut config = config(&[quiet("0", 8100), quiet("1", 8101)]);
    config["models"][0]["block_size"] = json!(16);
    let indexer = Indexer::start(config).await;
    let (one, other) = (request(&tokens(320), 16), request(&tokens(320)[1..], 16));
    let requests = [&one, &other, &one, &other];
    let named = |(at, request): (usize, &&Value)| {
        let mut request = (*request).clone();
        request["request_id"] = json!(format!("r{at}"));
        request
    };
    let requests: Vec<Value> = requests.iter().enumerate().map(named).collect();
    let (status, body) = indexer.post("/v1/route/batch", &json!({"requests": requests})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let workers: Vec<_> =
        body["decisions"].as_array().unwrap().iter().map(|one| one["worker"].clone()).collect();
    assert_eq!(workers[0], workers[2]);
    assert_eq!(workers[1], workers[3]);
    assert_ne!(workers[0], workers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_item_of_a_batch_fails_alone() {
    let indexer = two_quiet_workers().await;
    let good = request(&tokens(40), 16);
    let mut unknown = good.clone();
    unknown["model"] = json!("x");
    let requests = json!({"requests": [good, unknown, {"hashes": 5}, 7, good]});
    let (status, body) = indexer.post("/v1/route/batch", &requests).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let decisions = body["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 5);
    assert!(decisions[0]["worker"].is_string() && decisions[4]["worker"].is_string(), "{body}");
    for (at, code) in [(1, "unknown_model"), (2, "bad_request"), (3, "bad_request")] {
        assert_eq!(decisions[at]["error"]["code"], code);
    }
    let (status, _) = indexer.post("/v1/route/batch", &json!({"requests": 3})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
