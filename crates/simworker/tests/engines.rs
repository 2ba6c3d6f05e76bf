//! What an indexer sees of the engines other than vLLM.

mod support;

use serde_json::{Value, json};
use support::{Subscriber, chat, conversation, fleet, get, options, post, replay};
use warmpath_simworker::{EngineKind, Options, Worker};

fn of(engine: EngineKind) -> Options {
    Options { engine, topic: String::new(), block_size: 32, ..options(1) }
}

async fn prompt(worker: &Worker, messages: &Value) -> Vec<Value> {
    let (_, tokens) = post(worker, "/tokenize", &json!({ "messages": messages })).await;
    tokens["tokens"].as_array().expect("ids").clone()
}

#[tokio::test]
async fn sglang_tells_each_page_apart_in_arrays_of_its_own() {
    let fleet = fleet(of(EngineKind::Sglang)).await;
    let worker = &fleet.workers()[0];
    let mut subscriber = Subscriber::connect(worker, 0).await;
    let messages = conversation("lanterns", 60);
    let mut body = support::chat_body(&messages);
    body["cache_salt"] = "tenant".into();
    assert_eq!(post(worker, "/v1/chat/completions", &body).await.0, 200);
    let batch = subscriber.next().await;
    let tokens = prompt(worker, &messages).await;
    assert_eq!((batch.topic.as_str(), batch.events.len()), ("", tokens.len() / 32));
    let mut parent = Value::Null;
    for (event, page) in batch.events.iter().zip(tokens.chunks_exact(32)) {
        let event = event.as_array().expect("an array");
        assert_eq!((&event[0], event.len()), (&json!("BlockStored"), 8));
        assert_eq!((&event[2], &event[3], &event[4]), (&parent, &json!(page), &json!(32)));
        assert_eq!((&event[6], &event[7]), (&json!("GPU"), &json!({"cache_salt": "tenant"})));
        assert!(event[1][0].is_i64() || event[1][0].is_u64());
        parent = event[1][0].clone();
    }
    let frames = replay(worker, 0).await;
    assert!(frames.iter().all(|frames| frames.len() == 3), "a topic frame");
    let page = get(worker, "/metrics").await.1;
    assert!(page.contains("\nsglang:num_queue_reqs{model_name=\"tiny\"} 0.0\n"), "{page}");
}

#[tokio::test]
async fn tensorrt_llms_publishers_send_one_map_a_batch() {
    for engine in [EngineKind::TrtllmZmq, EngineKind::TrtllmSeed] {
        let fleet = fleet(of(engine)).await;
        let worker = &fleet.workers()[0];
        let mut subscriber = Subscriber::connect(worker, 0).await;
        let messages = conversation("harbours", 60);
        chat(worker, &messages).await;
        let batch = subscriber.next().await;
        let [event] = batch.events.as_slice() else { panic!("{:?}", batch.events) };
        let fields: Vec<&String> = event.as_object().expect("a map").keys().collect();
        let known = ["block_hashes", "block_size", "parent_block_hash", "token_ids", "type"];
        assert_eq!(fields, known);
        let tokens = prompt(worker, &messages).await;
        assert_eq!(event["token_ids"], json!(tokens[..tokens.len() / 32 * 32]));
        assert_eq!(engine.replays(), engine == EngineKind::TrtllmZmq);
        let (status, page) = get(worker, "/metrics").await;
        match engine {
            EngineKind::TrtllmSeed => assert_eq!(status, 404),
            _ => assert!(page.starts_with("[{"), "{page}"),
        }
    }
}

async fn drain(worker: &Worker) -> (u16, Vec<Value>) {
    let (status, body) = post(worker, "/kv_cache_events", &json!({})).await;
    (status, body.as_array().cloned().unwrap_or_default())
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["data"]["type"].as_str().expect("a type")).collect()
}

#[tokio::test]
async fn trtllm_serve_hands_its_events_out_once() {
    let options = Options {
        sliding_window: 512,
        host_blocks: 4,
        num_blocks: 40,
        max_model_len: 1000,
        events_after_first_request: true,
        ..of(EngineKind::TrtllmHttp)
    };
    let fleet = fleet(options).await;
    let worker = &fleet.workers()[0];
    assert_eq!(drain(worker).await.0, 500);
    let messages = conversation("meadows", 60);
    chat(worker, &messages).await;
    let (status, events) = drain(worker).await;
    assert_eq!(status, 200);
    assert!(events.iter().zip(0..).all(|(event, id)| event["event_id"] == id));
    let wide: Vec<Value> =
        events.iter().filter(|event| event["window_size"] == 1000).cloned().collect();
    assert_eq!(2 * wide.len(), events.len(), "each of them for both windows");
    assert_eq!(kinds(&wide), ["created", "stored", "stored"]);
    let blocks = wide[1]["data"]["blocks"].as_array().expect("blocks");
    let tokens = prompt(worker, &messages).await;
    assert_eq!(blocks.len(), tokens.len() / 32);
    assert_eq!(blocks[0]["tokens"][0]["token_id"], tokens[0]);
    // What is left of prompt and answer, without the last token, which nobody computed.
    let last = &wide[2]["data"]["blocks"][0];
    assert_eq!(last["tokens"].as_array().map(Vec::len), Some((tokens.len() + 7) % 32));
    assert_eq!(drain(worker).await.1, Vec::<Value>::new());

    for topic in ["castles", "bridges", "valleys"] {
        chat(worker, &conversation(topic, 90)).await;
    }
    let (_, events) = drain(worker).await;
    let all = kinds(&events);
    assert!(all.contains(&"updated") && all.contains(&"removed"), "{all:?}");
    let removed = events.iter().find(|event| event["data"]["type"] == "removed").expect("one");
    assert_eq!(removed["data"]["block_hashes"][0], last["block_hash"]);
    let (_, page) = get(worker, "/metrics").await;
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(page[0]["kvCacheStats"]["tokensPerBlock"], 32);
    assert_eq!(get(worker, "/metrics").await.1, "[]");
}

#[tokio::test]
async fn trtllm_serve_may_name_blocks_by_digits_and_keep_tokens_to_itself() {
    let options =
        Options { byte_hashes: true, events_without_tokens: true, ..of(EngineKind::TrtllmHttp) };
    let fleet = fleet(options).await;
    let worker = &fleet.workers()[0];
    chat(worker, &conversation("orchards", 60)).await;
    let (_, events) = drain(worker).await;
    let block = &events[1]["data"]["blocks"][0];
    assert_eq!(block["block_hash"].as_str().map(str::len), Some(64));
    assert!(block.get("tokens").is_none());
}
