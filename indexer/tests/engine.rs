//! A fake engine's events, load and health, as the indexer takes them.

mod common;

use axum::http::StatusCode;
use common::{Engine, Indexer, config, quiet, request, tokens};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn stored_blocks_steer_requests_and_teach_the_block_size() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(&[engine.worker("0"), quiet("1", 8101)])).await;
    let (_, before) = indexer.get("/v1/manifest").await;
    assert_eq!(before["models"][0]["block_sizes"], json!([]));
    engine.store_until_held(&indexer, 16, 3).await;

    let (_, manifest) = indexer.get("/v1/manifest").await;
    assert_eq!(manifest["models"][0]["block_sizes"], json!([16]));
    assert_ne!(manifest["revision"], before["revision"]);

    let asked = request(&tokens(72), 16);
    let (_, decision) = indexer.post("/v1/route", &asked).await;
    assert_eq!(decision["worker"], "0");
    assert_eq!((&decision["overlap_blocks"], &decision["total_blocks"]), (&json!(3), &json!(4)));
    assert_eq!((&decision["reason"], &decision["block_size"]), (&json!("prefix"), &json!(16)));
    assert!(decision["index_age_ms"].is_u64());

    let hashes = asked["hashes"]["16"].clone();
    let (_, best) =
        indexer.post("/find_best_worker", &json!({"local_hashes": hashes, "num_tokens": 72})).await;
    assert_eq!(best["matched_blocks"], 3);
    assert_eq!(best["overlap"], 48.0 / 72.0);
    let metric = "warmpath_overlap_tokens_total{worker=\"0\",rank=\"0\"}";
    assert_eq!(indexer.metric(metric).await, 96.0);
    indexer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn find_best_worker_takes_token_ids_as_the_standalone_router_does() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(&[engine.worker("0")])).await;
    engine.store_until_held(&indexer, 16, 2).await;
    let (_, best) = indexer.post("/find_best_worker", &json!({"token_ids": tokens(40)})).await;
    assert_eq!(best, json!({"worker_id": 0, "overlap": 0.8, "matched_blocks": 2}));
    indexer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_is_told_for_tokens_and_for_hashes_and_books_nothing() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(&[engine.worker("0")])).await;
    engine.store_until_held(&indexer, 16, 2).await;
    let tiers = json!({"device": 2, "host": 2, "disk": 2});
    let holders =
        json!([{"worker": "0", "rank": 0, "blocks": 2, "tiers": tiers, "block_size": 16}]);
    let by_tokens = json!({"model": "m", "token_ids": tokens(40)});
    let by_hashes = json!({"model": "m", "hashes": request(&tokens(40), 16)["hashes"]});
    for asked in [by_tokens, by_hashes] {
        let (_, answer) = indexer.post("/v1/overlap", &asked).await;
        assert_eq!((&answer["block_size"], &answer["total_blocks"]), (&json!(16), &json!(2)));
        assert_eq!(answer["holders"], holders);
    }
    for salted in [
        json!({"model": "m", "token_ids": tokens(40), "cache_salt": "s"}),
        json!({"model": "m", "token_ids": tokens(40), "adapter": "m-lora"}),
        json!({"model": "m-lora", "token_ids": tokens(40)}),
    ] {
        let (_, answer) = indexer.post("/v1/overlap", &salted).await;
        assert_eq!(answer["holders"], json!([]), "{salted}");
    }
    let (_, dump) = indexer.get("/v1/dump").await;
    let group = &dump["m:default"];
    assert_eq!((&group["block_size"], &group["events"][1]), (&json!(16), &json!(null)));
    let event = &group["events"][0];
    assert_eq!((&event["worker_id"], &event["storage_tier"]), (&json!(0), &json!("device")));
    let stored = &event["event"]["data"]["stored"];
    assert_eq!((&stored["parent_hash"], &stored["start_position"]), (&json!(null), &json!(0)));
    let told: Vec<_> = stored["blocks"].as_array().unwrap().iter().collect();
    let local = warmpath_blocks::local_hashes(&tokens(40), 16, warmpath_blocks::SEED);
    assert_eq!(
        told.iter().map(|block| block["tokens_hash"].as_u64().unwrap()).collect::<Vec<_>>(),
        local
    );
    let (_, decisions) = indexer.get("/v1/decisions").await;
    assert_eq!(decisions["decisions"], json!([]));
    let (status, _) = indexer.post("/v1/overlap", &json!({"model": "m"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = indexer.post("/v1/overlap", &json!({"model": "x", "token_ids": []})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_batch_and_a_broken_frame_are_counted_and_cost_nothing_else() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(&[engine.worker("0")])).await;
    engine.store_until_held(&indexer, 16, 1).await;
    engine.batch(b"\xc1".to_vec()).await;
    engine.store(&tokens(32), 16).await;
    indexer.until("/v1/workers", |list| list["workers"][0]["ranks"][0]["blocks"] == 2).await;
    let list = indexer.get("/v1/workers").await.1;
    let rejected =
        list["workers"][0]["ranks"][0]["events"]["rejected"].as_object().unwrap().clone();
    assert_eq!(rejected.values().filter_map(Value::as_u64).sum::<u64>(), 1, "{rejected:?}");

    // The first frames may come before the subscription.
    for _ in 0..1200 {
        engine.load_frame("nonsense").await;
        engine.load_frame(r#"{"num_waiting_reqs":3,"kv_cache_usage":0.25}"#).await;
        let list = indexer.get("/v1/workers").await.1;
        let rank = &list["workers"][0]["ranks"][0];
        if rank["waiting"] == 3.0 && rank["kv_usage"] == 0.25 {
            let rejected = &list["workers"][0]["load_rejected"]["not_json"];
            assert!(rejected.as_u64().unwrap() > 0);
            let metric = "warmpath_load_rejected_total{worker=\"0\",reason=\"not_json\"}";
            assert!(indexer.metric(metric).await > 0.0);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the sound frames were never heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_another_block_size_than_the_configured_are_rejected() {
    let mut engine = Engine::start().await;
    let mut config = config(&[engine.worker("0")]);
    config["models"][0]["block_size"] = json!(16);
    let indexer = Indexer::start(config).await;
    engine.store_until_held(&indexer, 16, 2).await;
    engine.store(&tokens(64), 32).await;
    let rejected = |list: &Value| {
        let counts = list["workers"][0]["ranks"][0]["events"]["rejected"].as_object().unwrap();
        counts.values().filter_map(Value::as_u64).sum::<u64>() == 1
    };
    let list = indexer.until("/v1/workers", rejected).await;
    assert_eq!(list["workers"][0]["ranks"][0]["blocks"], 2);
    assert_eq!(list["workers"][0]["ranks"][0]["block_size"], 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_page_tells_the_load() {
    let engine = Engine::start().await;
    let mut worker = engine.worker("0");
    let page = format!("http://{}/metrics", engine.http);
    worker["load"] = json!({"prometheus": page, "interval_ms": 20});
    let indexer = Indexer::start(config(&[worker])).await;
    let list =
        indexer.until("/v1/workers", |list| list["workers"][0]["ranks"][0]["waiting"] == 7.0).await;
    let rank = &list["workers"][0]["ranks"][0];
    assert_eq!((&rank["running"], &rank["kv_usage"]), (&json!(3.0), &json!(0.5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_down_is_skipped_until_it_is_up_again() {
    let engine = Engine::start().await;
    let indexer = Indexer::start(config(&[engine.worker("0"), quiet("1", 8101)])).await;
    engine.set_healthy(false);
    indexer.until("/v1/workers", |list| list["workers"][0]["up"] == false).await;
    for _ in 0..4 {
        let (_, decision) = indexer.post("/v1/route", &request(&tokens(40), 16)).await;
        assert_eq!((&decision["worker"], &decision["fallbacks"]), (&json!("1"), &json!([])));
    }
    let mut pinned = request(&tokens(40), 16);
    pinned["pin"] = json!("0");
    assert_eq!(indexer.post("/v1/route", &pinned).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    engine.set_healthy(true);
    indexer.until("/v1/workers", |list| list["workers"][0]["up"] == true).await;
    assert_eq!(indexer.post("/v1/route", &pinned).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_and_go_over_the_api() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(&[])).await;
    let (status, added) = indexer.post("/v1/workers", &engine.worker("0")).await;
    assert_eq!((status, &added["id"]), (StatusCode::CREATED, &json!("0")), "{added}");
    assert_eq!(indexer.post("/v1/workers", &engine.worker("0")).await.0, StatusCode::CONFLICT);
    engine.store_until_held(&indexer, 16, 2).await;
    let (_, decision) = indexer.post("/v1/route", &request(&tokens(40), 16)).await;
    assert_eq!((&decision["worker"], &decision["overlap_blocks"]), (&json!("0"), &json!(2)));

    let (status, gone) = indexer.delete("/v1/workers/0").await;
    assert_eq!((status, &gone["removed_blocks"]), (StatusCode::OK, &json!(2)));
    assert_eq!(indexer.delete("/v1/workers/0").await.0, StatusCode::NOT_FOUND);
    let (status, _) = indexer.post("/v1/route", &request(&tokens(40), 16)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(indexer.metric("warmpath_index_holders").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_wrong_in_many_ways_hears_all_of_them() {
    let indexer = Indexer::start(config(&[])).await;
    let wrong = json!({"id": "0", "modl": "m", "model": "x", "ranks": 0});
    let (status, body) = indexer.post("/v1/workers", &wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = body["error"]["message"].as_str().unwrap();
    for expected in [
        "worker.modl: unknown field; did you mean \"model\"?",
        "worker.model: no model",
        "worker.ranks: expected 1",
        "worker.endpoint: is required",
    ] {
        assert!(message.contains(expected), "missing {expected:?} in\n{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_waits_for_event_sources_and_says_for_which() {
    let engine = Engine::start().await;
    let mut missing = quiet("1", 8101);
    // Nobody listens there: the port was bound once and is free again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    missing["events"] = json!({"endpoint": format!("tcp://{free}")});
    let indexer = Indexer::start(config(&[engine.worker("0"), missing])).await;
    assert_eq!(indexer.admin("/healthz").await.0, StatusCode::OK);
    let (status, body) = indexer.admin("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("events of worker \\\"1\\\" rank 0"), "{body}");
    for _ in 0..2400 {
        if indexer.admin("/readyz").await.0 == StatusCode::OK {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("never ready although the patience is over");
}
