//! What an indexer sees: events, replays, load; over real sockets.

mod support;

use bytes::Bytes;
use serde_json::{Value, json};
use support::{
    Batch, PATIENCE, Subscriber, cached, chat, chat_body, conversation, fleet, get, options, post,
    post_with, replay,
};
use warmpath_simworker::{EventLayout, Fleet, Options, Worker};
use zeromq::{Socket, SocketRecv, SubSocket};

/// Hashes that are in the cache after these batches, each with its copies.
fn resident(batches: &[Batch]) -> std::collections::HashMap<u64, usize> {
    let mut resident = std::collections::HashMap::new();
    for event in batches.iter().flat_map(|batch| &batch.events) {
        let hashes = event["block_hashes"].as_array().into_iter().flatten();
        let hashes = hashes.map(|hash| hash.as_u64().expect("an unsigned hash"));
        match event["type"].as_str().expect("type") {
            "BlockStored" => hashes.for_each(|hash| *resident.entry(hash).or_default() += 1),
            "BlockRemoved" => hashes.for_each(|hash| {
                let copies = resident.get_mut(&hash).expect("stored before");
                *copies -= 1;
                if *copies == 0 {
                    resident.remove(&hash);
                }
            }),
            "AllBlocksCleared" => resident.clear(),
            other => panic!("{other}"),
        }
    }
    resident
}

fn stored(batch: &Batch) -> &Value {
    batch.events.last().expect("an event")
}

fn first(fleet: &Fleet) -> &Worker {
    &fleet.workers()[0]
}

#[tokio::test]
async fn a_subscriber_hears_every_block_with_its_tokens() {
    let fleet = fleet(options(1)).await;
    let worker = first(&fleet);
    let mut subscriber = Subscriber::connect(worker, 0).await;
    let answer = chat(worker, &conversation("violins", 40)).await;
    let batch = subscriber.next().await;
    assert_eq!((batch.topic.as_str(), &batch.rank), ("kv-events", &json!(0)));
    let event = stored(&batch);
    let hashes = event["block_hashes"].as_array().expect("hashes");
    let prompt = answer["prompt_token_ids"].as_array().expect("ids");
    assert_eq!(event["type"], "BlockStored");
    assert_eq!(hashes.len(), prompt.len() / 16);
    assert_eq!(
        event["token_ids"].as_array().expect("tokens")[..],
        prompt[..prompt.len() / 16 * 16]
    );
    assert_eq!(event["parent_block_hash"], Value::Null);
    assert_eq!(event["extra_keys"], json!(vec![Value::Null; hashes.len()]));

    let mut body = chat_body(&conversation("violins", 40));
    body["cache_salt"] = "tenant".into();
    let headers = [("x-session-id", "sess-1")];
    post_with(worker, "/v1/chat/completions", &body, &headers).await;
    let batch = subscriber.next().await;
    assert_eq!(stored(&batch)["extra_keys"][0], json!(["tenant"]));
    assert_eq!(stored(&batch)["extra_keys"][1], Value::Null);
    assert_eq!(stored(&batch)["session_id"], "sess-1");
    assert_ne!(stored(&batch)["block_hashes"], event["block_hashes"]);
}

#[tokio::test]
async fn replayed_events_tell_exactly_what_the_next_request_finds() {
    let small = Options { num_blocks: 60, max_model_len: 900, ..options(1) };
    let fleet = fleet(small).await;
    let worker = first(&fleet);
    for round in 0..30 {
        let messages = conversation(&format!("topic {}", round * round % 7), 20 + round % 3 * 15);
        let frames = replay(worker, 0).await;
        let (end, batches) = frames.split_last().expect("an end marker");
        assert_eq!(end[1..], [Bytes::new(), Bytes::from_static(&[0xff; 8]), Bytes::new()]);
        let batches: Vec<Batch> =
            batches.iter().map(|frames| Batch::decode(&frames[1..])).collect();
        assert!(batches.iter().zip(0..).all(|(batch, sequence)| batch.sequence == sequence));
        let resident = resident(&batches);

        // Walk the prompt down the chains that the events have described.
        let (_, tokens) = post(worker, "/tokenize", &json!({ "messages": messages })).await;
        let tokens: Vec<u64> = serde_json::from_value(tokens["tokens"].clone()).expect("ids");
        let mut parent = Value::Null;
        let mut blocks = 0;
        for block in tokens[..tokens.len() - 1].chunks_exact(16) {
            let child = batches.iter().flat_map(|batch| &batch.events).find_map(|event| {
                let hashes = event.get("block_hashes")?.as_array()?;
                let tokens: Vec<u64> =
                    serde_json::from_value(event.get("token_ids")?.clone()).ok()?;
                let parents = [event["parent_block_hash"].clone()];
                let parents = parents.iter().chain(hashes);
                let mut row = parents.zip(hashes).zip(tokens.chunks_exact(16));
                row.find(|((before, _), content)| **before == parent && *content == block)
                    .map(|((_, hash), _)| hash.clone())
            });
            let Some(child) = child else { break };
            if !resident.contains_key(&child.as_u64().expect("a hash")) {
                break;
            }
            parent = child;
            blocks += 1;
        }
        assert_eq!(cached(&chat(worker, &messages).await), blocks * 16, "round {round}");
    }
    let page = get(worker, "/metrics").await.1;
    assert!(!page.contains("prefix_cache_hits_total{engine=\"0\",model_name=\"tiny\"} 0.0"));
}

#[tokio::test]
async fn replays_start_where_they_are_asked_to_in_the_layout_of_the_release() {
    for (layout, topic) in [
        (EventLayout::Map, Some("kv-events")),
        (EventLayout::Map024, None),
        (EventLayout::Array022, None),
        (EventLayout::Array009, None),
    ] {
        let fleet = fleet(Options { event_layout: layout, ..options(1) }).await;
        let worker = first(&fleet);
        for topic in ["a", "b", "c"] {
            chat(worker, &conversation(topic, 20)).await;
        }
        let all = replay(worker, 0).await;
        assert!(all.len() > 3, "{layout:?}");
        let head = 1 + topic.iter().count();
        for (frames, sequence) in all[..all.len() - 1].iter().zip(0_u64..) {
            assert_eq!(frames.len(), head + 2);
            assert_eq!(frames[0], Bytes::new());
            if let Some(topic) = topic {
                assert_eq!(frames[1], topic);
            }
            assert_eq!(frames[head][..], sequence.to_be_bytes());
            let batch: Value = rmp_serde::from_slice(&frames[head + 1]).expect("MessagePack");
            assert_eq!(
                batch[1][0].is_object(),
                matches!(layout, EventLayout::Map | EventLayout::Map024)
            );
            let rank = (layout != EventLayout::Array009).then(|| json!(0));
            assert_eq!(batch.get(2), rank.as_ref());
        }
        assert_eq!(replay(worker, 2).await, all[2..]);
        assert_eq!(replay(worker, 1000).await, all[all.len() - 1..]);
    }
}

#[tokio::test]
async fn load_is_reported_in_json_without_a_topic() {
    let slow = Options { decode_ms_per_token: 20.0, max_num_seqs: 1, ..options(1) };
    let fleet = fleet(slow).await;
    let worker = first(&fleet);
    let mut socket = SubSocket::new();
    socket.connect(&format!("tcp://{}", worker.metrics)).await.expect("connected");
    socket.subscribe("").await.expect("subscribed");
    let mut body = chat_body(&conversation("load", 30));
    body["max_tokens"] = 50.into();
    let requests = (0..3).map(|_| post(worker, "/v1/chat/completions", &body));
    let requests = futures::future::join_all(requests);
    let watch = async {
        loop {
            let message = socket.recv().await.expect("a frame").into_vec();
            assert_eq!(message.len(), 1);
            let frame: Value = serde_json::from_slice(&message[0]).expect("JSON");
            if frame["num_waiting_reqs"] == 2 {
                return frame["kv_cache_usage"].as_f64().expect("a number");
            }
        }
    };
    let (usage, _) = futures::join!(tokio::time::timeout(PATIENCE, watch), requests);
    let usage = usage.expect("a loaded worker");
    assert!(usage > 0.0 && usage < 1.0, "{usage}");
}

#[tokio::test]
async fn ranks_have_their_own_cache_publisher_and_sequence() {
    let fleet = fleet(Options { ranks: 2, ..options(2) }).await;
    let worker = &fleet.workers()[1];
    let mut subscriber = Subscriber::connect(worker, 1).await;
    let body = chat_body(&conversation("ranks", 30));
    let ask = async |rank: &str| {
        let headers = [("X-data-parallel-rank", rank)];
        cached(&post_with(worker, "/v1/chat/completions", &body, &headers).await.1)
    };
    assert_eq!(ask("0").await, 0);
    assert_eq!(ask("1").await, 0);
    assert!(ask("1").await > 0);
    assert_eq!(subscriber.next().await.rank, 1);
    let (status, answer) =
        post_with(worker, "/v1/chat/completions", &body, &[("x-data-parallel-rank", "2")]).await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"]["message"], "data_parallel_rank 2 is out of range [0, 2).");
    let page = get(worker, "/metrics").await.1;
    assert!(page.contains("vllm:num_requests_running{engine=\"1\",model_name=\"tiny\"}"));
    let rank0 = replay(worker, 0).await;
    let batch: Value = rmp_serde::from_slice(&rank0[0][3]).expect("MessagePack");
    assert_eq!(batch[2], 0);
}

#[tokio::test]
async fn a_reset_is_published_with_the_next_step() {
    let fleet = fleet(options(1)).await;
    let worker = first(&fleet);
    let messages = conversation("reset", 30);
    chat(worker, &messages).await;
    let before = replay(worker, 0).await.len();
    let (status, answer) = post(worker, "/reset_prefix_cache", &Value::Null).await;
    assert_eq!((status, answer), (200, json!({ "success": true })));
    assert_eq!(replay(worker, 0).await.len(), before);
    assert_eq!(cached(&chat(worker, &messages).await), 0);
    let batch = Batch::decode(&replay(worker, 0).await[before - 1][1..]);
    assert_eq!(batch.events[0], json!({ "type": "AllBlocksCleared" }));
    assert_eq!(batch.events[1]["type"], "BlockStored");
    assert!(worker.reset().await);
    assert_eq!(cached(&chat(worker, &messages).await), 0);
}

#[tokio::test]
async fn a_killed_worker_is_gone_at_once_and_starts_over_on_its_ports() {
    let fleet = fleet(Options { decode_ms_per_token: 5.0, ..options(2) }).await;
    let worker = first(&fleet);
    let mut subscriber = Subscriber::connect(worker, 0).await;
    let mut body = chat_body(&conversation("killed", 30));
    body["max_tokens"] = 20_000.into();
    let request = post_broken(worker, &body);
    let kill = async {
        subscriber.next().await;
        worker.kill().await;
    };
    let (broken, ()) = futures::join!(request, kill);
    assert!(broken);
    for address in [worker.http, worker.events, worker.replay, worker.metrics] {
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{address}");
    }
    assert!(!worker.reset().await);
    assert_eq!(get(&fleet.workers()[1], "/health").await.0, 200);

    let address = worker.http;
    worker.restart().await.expect("the ports are free");
    assert_eq!(worker.http, address);
    assert_eq!(replay(worker, 0).await.len(), 1, "an empty ring");
    let mut subscriber = Subscriber::connect(worker, 0).await;
    assert_eq!(cached(&chat(worker, &conversation("killed", 30)).await), 0);
    subscriber.next().await;
    let batches = replay(worker, 0).await;
    assert_eq!(batches[0][2][..], 0_u64.to_be_bytes());
    fleet.shutdown().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// Whether the connection broke before an answer came.
async fn post_broken(worker: &Worker, body: &Value) -> bool {
    let url = format!("http://{}/v1/chat/completions", worker.http);
    reqwest::Client::new().post(url).json(body).send().await.is_err()
}

#[tokio::test]
async fn divergent_workers_name_equal_blocks_differently() {
    for divergent_hashes in [false, true] {
        let fleet = fleet(Options { divergent_hashes, ..options(2) }).await;
        let mut hashes = Vec::new();
        for worker in fleet.workers() {
            chat(worker, &conversation("same", 30)).await;
            let batch = Batch::decode(&replay(worker, 0).await[0][1..]);
            hashes.push(stored(&batch)["block_hashes"].clone());
        }
        assert_eq!(hashes[0] != hashes[1], divergent_hashes);
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_option() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    let error = Fleet::start(Options { base_replay_port: port, ..options(1) }).await.err();
    let error = format!("{:#}", error.expect("an error"));
    assert!(error.contains(&port.to_string()) && error.contains("--base-replay-port"), "{error}");
}
