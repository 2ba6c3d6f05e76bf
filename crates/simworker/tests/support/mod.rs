//! A fleet on free ports, a client, and a subscriber that decodes on its own.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use warmpath_simworker::{Fleet, Options, Worker};
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

/// Long enough for any machine; nothing is measured with it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Instant workers on free ports.
pub(crate) fn options(num_workers: usize) -> Options {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    Options {
        num_workers,
        prefill_tokens_per_second: 0.0,
        decode_ms_per_token: 0.0,
        metrics_interval_ms: 5,
        ..Options::new(model).on_free_ports()
    }
}

pub(crate) async fn fleet(options: Options) -> Fleet {
    Fleet::start(options).await.expect("the fleet starts")
}

/// A text of about this many words that shares no block with another topic's.
pub(crate) fn prose(topic: &str, words: usize) -> String {
    (0..words).map(|n| format!("{topic} {n} and ")).collect()
}

pub(crate) fn conversation(topic: &str, words: usize) -> Value {
    json!([
        { "role": "system", "content": prose(topic, words) },
        { "role": "user", "content": "Go on." },
    ])
}

pub(crate) fn chat_body(messages: &Value) -> Value {
    json!({
        "model": "tiny", "messages": messages, "max_tokens": 8, "ignore_eos": true,
        "return_token_ids": true,
    })
}

pub(crate) async fn post(worker: &Worker, path: &str, body: &Value) -> (u16, Value) {
    post_with(worker, path, body, &[]).await
}

pub(crate) async fn post_with(
    worker: &Worker,
    path: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let client = reqwest::Client::new();
    let mut request = client.post(format!("http://{}{path}", worker.http)).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

pub(crate) async fn get(worker: &Worker, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", worker.http);
    let response = reqwest::get(url).await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

pub(crate) async fn chat(worker: &Worker, messages: &Value) -> Value {
    let (status, body) = post(worker, "/v1/chat/completions", &chat_body(messages)).await;
    assert_eq!(status, 200, "{body}");
    body
}

pub(crate) fn cached(body: &Value) -> u64 {
    body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("cached_tokens")
}

/// A batch of events as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) topic: String,
    pub(crate) sequence: u64,
    pub(crate) events: Vec<Value>,
    pub(crate) rank: Value,
}

impl Batch {
    pub(crate) fn decode(frames: &[bytes::Bytes]) -> Batch {
        let [topic, sequence, payload] = frames else { panic!("{} frames", frames.len()) };
        let batch: Value = rmp_serde::from_slice(payload).expect("MessagePack");
        assert!(batch[0].is_f64());
        Batch {
            topic: String::from_utf8_lossy(topic).into_owned(),
            sequence: u64::from_be_bytes(sequence.as_ref().try_into().expect("8 bytes")),
            events: batch[1].as_array().expect("events").clone(),
            rank: batch.get(2).cloned().unwrap_or(Value::Null),
        }
    }
}

pub(crate) struct Subscriber(SubSocket);

impl Subscriber {
    /// Subscribed for certain: an answer has been heard before this returns.
    pub(crate) async fn connect(worker: &Worker, rank: u16) -> Subscriber {
        let mut socket = SubSocket::new();
        let port = worker.events.port() + rank;
        let endpoint = format!("tcp://{}:{port}", worker.events.ip());
        socket.connect(&endpoint).await.expect("connected");
        socket.subscribe("").await.expect("subscribed");
        let mut subscriber = Subscriber(socket);
        subscriber.knock(worker, rank).await;
        subscriber
    }

    /// Sends new prompts until one of them is heard of, and hears the rest of it.
    pub(crate) async fn knock(&mut self, worker: &Worker, rank: u16) {
        for attempt in 0..200 {
            let body = json!({
                "model": "tiny", "prompt": prose(&format!("knock{attempt}"), 20), "max_tokens": 1,
            });
            let rank = rank.to_string();
            let headers = [("x-data-parallel-rank", rank.as_str())];
            let (status, _) = post_with(worker, "/v1/completions", &body, &headers).await;
            assert_eq!(status, 200);
            let mut heard = false;
            while self.try_next(Duration::from_millis(100)).await.is_some() {
                heard = true;
            }
            if heard {
                return;
            }
        }
        panic!("no event was heard");
    }

    pub(crate) async fn next(&mut self) -> Batch {
        self.try_next(PATIENCE).await.expect("an event")
    }

    /// The next batch, if one comes in time.
    pub(crate) async fn try_next(&mut self, patience: Duration) -> Option<Batch> {
        let message = tokio::time::timeout(patience, self.0.recv()).await.ok()?.expect("frames");
        Some(Batch::decode(&message.into_vec()))
    }
}

/// Everything that a replay brings, frame by frame, with the end marker.
pub(crate) async fn replay(worker: &Worker, start: u64) -> Vec<Vec<bytes::Bytes>> {
    let mut socket = DealerSocket::new();
    socket.connect(&format!("tcp://{}", worker.replay)).await.expect("connected");
    let mut request = ZmqMessage::from(bytes::Bytes::new());
    request.push_back(bytes::Bytes::copy_from_slice(&start.to_be_bytes()));
    socket.send(request).await.expect("sent");
    let mut replies = Vec::new();
    loop {
        let reply = tokio::time::timeout(PATIENCE, socket.recv()).await.expect("a reply in time");
        let frames = reply.expect("a reply").into_vec();
        let end = frames.last().is_some_and(|payload| payload.is_empty());
        replies.push(frames);
        if end {
            return replies;
        }
    }
}
