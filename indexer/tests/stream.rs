//! Decisions asked for on a stream.

mod common;

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use common::{Indexer, config, quiet, request, tokens};
use futures::channel::mpsc;
use serde_json::{Value, json};
use warmpath_protocol::stream::{Answer, FRAME_HEAD, GREETING, HELD, Held, Question, STREAM_PATH};
use warmpath_protocol::{Decision, ErrorBody, RouteRequest, brief};

/// One stream of one client.
struct Client {
    questions: mpsc::UnboundedSender<Result<Bytes, std::io::Error>>,
    answers: reqwest::Response,
    read: BytesMut,
}

impl Client {
    async fn open(indexer: &Indexer) -> Self {
        let (questions, body) = mpsc::unbounded();
        let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
        let asked = client.post(indexer.url(STREAM_PATH)).body(reqwest::Body::wrap_stream(body));
        let answers = asked.send().await.unwrap().error_for_status().unwrap();
        assert_eq!(answers.headers()["content-type"], "application/grpc");
        let mut client = Self { questions, answers, read: BytesMut::new() };
        let greeting = client.next().await.unwrap();
        assert_eq!(Answer::read(&greeting), Some(GREETING));
        client
    }

    fn ask(&self, number: u32, request: &Value) {
        let request: RouteRequest = serde_json::from_value(request.clone()).unwrap();
        self.send(&Question { number, body: &rmp_serde::to_vec_named(&request).unwrap() }.write());
    }

    fn send(&self, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap();
        let framed = [&[0], &length.to_be_bytes()[..], message].concat();
        self.questions.unbounded_send(Ok(framed.into())).unwrap();
    }

    /// The next message; none at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some((head, rest)) = self.read.split_first_chunk::<FRAME_HEAD>() {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
                if rest.len() >= length {
                    self.read.advance(FRAME_HEAD);
                    return Some(self.read.split_to(length).freeze());
                }
            }
            self.read.extend_from_slice(&self.answers.chunk().await.unwrap()?);
        }
    }

    async fn refusal(&mut self) -> (u32, u16, String) {
        let message = self.next().await.unwrap();
        let answer = Answer::read(&message).unwrap();
        let body: ErrorBody = rmp_serde::from_slice(answer.body).unwrap();
        (answer.number, answer.status, body.error.code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_under_their_numbers() {
    let indexer = Indexer::start(config(&[quiet("0", 8100), quiet("1", 8101)])).await;
    let mut client = Client::open(&indexer).await;
    for number in 1..=20 {
        client.ask(number, &request(&tokens(40), 16));
    }
    for number in 1..=20 {
        let message = client.next().await.unwrap();
        let answer = Answer::read(&message).unwrap();
        assert_eq!((answer.number, answer.status), (number, 200));
        let decision = brief::read(answer.body).unwrap();
        assert_eq!((decision.ranks, decision.fallbacks.len()), (1, 1));
    }
    let mut explained = request(&tokens(40), 16);
    explained["explain"] = json!(true);
    client.ask(21, &explained);
    let message = client.next().await.unwrap();
    let answer = Answer::read(&message).unwrap();
    let decision: Decision = rmp_serde::from_slice(answer.body).unwrap();
    assert_eq!(decision.scores.unwrap().len(), 2);
    let (_, recorded) = indexer.get("/v1/decisions/r-1").await;
    assert_eq!(recorded["tokens"], 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_question_says_so_is_answered_later_and_can_be_taken_back() {
    let mut settings = config(&[quiet("0", 8100)]);
    settings["saturation"] = json!({"active_prefill_tokens_threshold": 10, "hold_ms": 30_000});
    let indexer = Indexer::start(settings).await;
    let mut client = Client::open(&indexer).await;
    let asked = |id: &str, may_hold: bool| {
        let mut asked = request(&tokens(40), 16);
        (asked["request_id"], asked["may_hold"]) = (json!(id), json!(may_hold));
        asked
    };
    client.ask(1, &asked("first", true));
    let status = async |client: &mut Client| {
        let message = client.next().await.unwrap();
        let answer = Answer::read(&message).unwrap();
        (answer.number, answer.status)
    };
    assert_eq!(status(&mut client).await, (1, 200));
    client.ask(2, &asked("second", true));
    let message = client.next().await.unwrap();
    let answer = Answer::read(&message).unwrap();
    assert_eq!((answer.number, answer.status), (2, HELD));
    assert_eq!(rmp_serde::from_slice::<Held>(answer.body).unwrap(), Held { hold_ms: 30_000 });
    client.ask(3, &asked("third", false));
    assert_eq!(status(&mut client).await, (3, 200), "it can not be held");
    client.ask(4, &asked("fourth", true));
    assert_eq!(status(&mut client).await, (4, HELD));
    client.send(&Question { number: 4, body: &[] }.write());
    for id in ["first", "third"] {
        indexer.post("/free", &json!({"request_id": id})).await;
    }
    assert_eq!(status(&mut client).await, (2, 200));
    indexer.post("/free", &json!({"request_id": "second"})).await;
    client.ask(5, &asked("fifth", true));
    assert_eq!(status(&mut client).await, (5, 200), "the fourth is nowhere");
    assert_eq!(indexer.get("/v1/decisions/fourth").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_spoils_no_other() {
    let mut settings = config(&[quiet("0", 8100)]);
    settings["max_body_bytes"] = json!(2048);
    let indexer = Indexer::start(settings).await;
    let mut client = Client::open(&indexer).await;
    client.send(&Question { number: 1, body: b"hello" }.write());
    client.send(&Question { number: 2, body: &[0; 4096] }.write());
    let mut unknown = request(&tokens(40), 16);
    unknown["model"] = json!("x");
    client.ask(3, &unknown);
    client.ask(4, &request(&tokens(40), 16));
    assert_eq!(client.refusal().await, (1, 400, "bad_request".into()));
    assert_eq!(client.refusal().await, (2, 413, "bad_request".into()));
    assert_eq!(client.refusal().await, (3, 404, "unknown_model".into()));
    let message = client.next().await.unwrap();
    assert_eq!(Answer::read(&message).unwrap().status, 200);
    assert_eq!(indexer.metric("warmpath_route_errors_total{code=\"bad_request\"}").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_does_not_keep_the_indexer_from_stopping() {
    let indexer = Indexer::start(config(&[quiet("0", 8100)])).await;
    let mut client = Client::open(&indexer).await;
    let stopping = tokio::time::timeout(Duration::from_secs(20), indexer.stop());
    let (stopped, end) = tokio::join!(stopping, client.next());
    stopped.unwrap();
    assert_eq!(end, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_protocol_ends_its_stream_alone() {
    let indexer = Indexer::start(config(&[quiet("0", 8100)])).await;
    let (mut broken, mut client) = (Client::open(&indexer).await, Client::open(&indexer).await);
    broken.questions.unbounded_send(Ok(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"))).unwrap();
    assert_eq!(broken.next().await, None);
    client.ask(1, &request(&tokens(40), 16));
    assert!(client.next().await.is_some());
}
