//! A filter in a gateway: what clients, the indexer and Envoy do to it.

use std::collections::BTreeMap;
use std::time::Duration;

use warmpath_filter::host::{Action, Reply};
use warmpath_protocol::stream::Question;
use warmpath_protocol::{Decision, ErrorBody, MESSAGE_PACK, Reason, RouteRequest};

use super::shelf::Shelf;
use super::{Fake, Filter, Held, Made};

/// The context id of the one root.
pub const ROOT: u32 = 1;
/// How a filter starts: natively or as a module.
pub type Start = fn(&Fake) -> Box<dyn Filter>;

pub const CHAT: &str = "/v1/chat/completions";

pub struct Gateway {
    pub filter: Box<dyn Filter>,
    pub host: Fake,
    next_context: u32,
}

/// A chat of some twenty tokens and more.
pub fn chat(model: &str) -> Vec<u8> {
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Where do the wild geese go when the lake freezes over?"}}]}}"#
    )
    .into_bytes()
}

pub fn decision() -> Decision {
    Decision {
        worker: "0".into(),
        rank: 0,
        ranks: 1,
        endpoint: "10.0.0.1:8100".into(),
        cluster: "worker-0".into(),
        fallbacks: vec!["10.0.0.2:8100".into()],
        overlap_blocks: 3,
        predicted_blocks: 0,
        total_blocks: 7,
        block_size: 4,
        reason: Reason::Prefix,
        index_age_ms: None,
        scores: None,
    }
}

/// An error of the indexer's own.
pub fn refusal(status: u16, code: &str) -> Reply {
    let body = serde_json::to_vec(&ErrorBody::new(code, "no")).unwrap();
    Reply { status: Some(status), body }
}

/// What Envoy makes of a call that failed.
pub fn local(status: u16) -> Reply {
    Reply { status: Some(status), body: b"upstream request timeout".to_vec() }
}

impl Gateway {
    /// A filter with this configuration that has not heard of the indexer yet.
    pub fn new(start: Start, configuration: &str) -> Self {
        let host = Fake::default();
        host.state().now = Duration::from_secs(1_700_000_000);
        host.state().configuration = configuration.as_bytes().to_vec();
        let filter = start(&host);
        let mut gateway = Self { filter, host, next_context: ROOT };
        gateway.filter.on_context_create(ROOT, 0);
        gateway.filter.on_configure(ROOT, configuration.len());
        gateway
    }

    /// A filter that has the test model.
    pub fn ready(start: Start, configuration: &str) -> Self {
        let mut gateway = Self::new(start, configuration);
        gateway.refresh(&Shelf::tiny());
        gateway
    }

    /// A tick, and everything that the filter fetches because of it.
    pub fn refresh(&mut self, shelf: &Shelf) {
        self.tick();
        let mut asked = Vec::new();
        for _ in 0..100 {
            let mut calls = self.take_calls();
            if calls.is_empty() {
                // A model whose files are all there is made in a tick of its own.
                self.filter.on_tick(ROOT);
                calls = self.take_calls();
            }
            if calls.is_empty() {
                self.host.state().calls = asked;
                return;
            }
            for call in calls {
                match call.headers[":method"].as_str() {
                    "GET" => self.filter.on_call_reply(call.token, &shelf.answer(&call)),
                    _ => asked.push(call),
                }
            }
        }
        panic!("the filter fetches without end");
    }

    /// The next poll of the manifest is due.
    pub fn tick(&mut self) {
        self.pass_time(1000);
        self.filter.on_tick(ROOT);
    }

    pub fn take_calls(&mut self) -> Vec<Made> {
        std::mem::take(&mut self.host.state().calls)
    }

    pub fn pass_time(&mut self, milliseconds: u64) {
        self.host.state().now += Duration::from_millis(milliseconds);
    }

    /// A request's headers arrive.
    pub fn begin(&mut self, headers: &[(&str, &str)], end_of_stream: bool) -> (u32, Action) {
        self.next_context += 1;
        let context = self.next_context;
        let headers = headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        let held = Held { headers, ..Held::default() };
        self.host.state().requests.insert(context, held);
        self.filter.on_context_create(context, ROOT);
        (context, self.filter.on_request_headers(context, end_of_stream))
    }

    /// More of a request's body arrives.
    pub fn body(&mut self, context: u32, bytes: &[u8], end_of_stream: bool) -> Action {
        let size = {
            let mut state = self.host.state();
            let body = &mut state.requests.get_mut(&context).unwrap().body;
            body.extend_from_slice(bytes);
            body.len()
        };
        self.filter.on_request_body(context, size, end_of_stream)
    }

    /// A whole `POST`, the way HTTP/1 brings one: the last frame is empty.
    pub fn post_with(&mut self, path: &str, more: &[(&str, &str)], body: &[u8]) -> (u32, Action) {
        let length = body.len().to_string();
        let mut headers = vec![
            (":method", "POST"),
            (":path", path),
            (":authority", "llm"),
            ("content-length", length.as_str()),
            ("x-request-id", "r-1"),
        ];
        headers.extend(more);
        let (context, action) = self.begin(&headers, false);
        if action == Action::Continue {
            return (context, action);
        }
        match self.body(context, body, false) {
            Action::Pause => (context, self.body(context, b"", true)),
            Action::Continue => (context, Action::Continue),
        }
    }

    pub fn post(&mut self, body: &[u8]) -> (u32, Action) {
        self.post_with(CHAT, &[], body)
    }

    /// A `POST` that must lead to a question, and that question.
    pub fn ask_with(&mut self, more: &[(&str, &str)], body: &[u8]) -> (u32, Made) {
        let (context, action) = self.post_with(CHAT, more, body);
        assert_eq!(action, Action::Pause, "{:?}", self.request(context).filter_state);
        let mut calls = self.take_calls();
        assert_eq!(calls.len(), 1);
        (context, calls.remove(0))
    }

    pub fn ask(&mut self, model: &str) -> (u32, Made) {
        self.ask_with(&[], &chat(model))
    }

    /// The one stream that is open.
    pub fn stream(&self) -> u32 {
        let state = self.host.state();
        assert_eq!(state.streams.len(), 1, "{:?}", state.streams);
        state.streams[0]
    }

    /// A `POST` that must lead to a question on the stream: the request's
    /// context and the question's number.
    pub fn ask_on(&mut self, stream: u32) -> (u32, u32) {
        let (context, action) = self.post(&chat("tiny"));
        assert_eq!(action, Action::Pause, "{:?}", self.request(context).filter_state);
        assert!(self.take_calls().is_empty());
        let sent = std::mem::take(&mut self.host.state().sent);
        let [(token, message)] = &sent[..] else { panic!("{} questions", sent.len()) };
        assert_eq!(*token, stream);
        let question = Question::read(message).unwrap();
        let request: RouteRequest = rmp_serde::from_slice(question.body).unwrap();
        assert_eq!(request.request_id, "r-1");
        (context, question.number)
    }

    /// The indexer decides.
    pub fn decide(&mut self, call: &Made, decision: &Decision) {
        let body = rmp_serde::to_vec_named(decision).unwrap();
        self.filter.on_call_reply(call.token, &Reply { status: Some(200), body });
    }

    pub fn request(&self, context: u32) -> std::cell::RefMut<'_, Held> {
        std::cell::RefMut::map(self.host.state(), |state| state.requests.get_mut(&context).unwrap())
    }

    pub fn header(&self, context: u32, name: &str) -> Option<String> {
        let request = self.request(context);
        request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The response's headers pass, and are what the client gets.
    pub fn respond(&mut self, context: u32) -> BTreeMap<String, String> {
        self.filter.on_response_headers(context, false);
        self.request(context).response_headers.clone()
    }

    /// The worker's answer begins, streamed or whole.
    pub fn answer_begins(&mut self, context: u32, status: u16, content: &str) {
        let headers = [(":status", status.to_string()), ("content-type", content.to_owned())];
        let headers = headers.map(|(name, value)| (name.to_owned(), value));
        self.request(context).response_headers.extend(headers);
        self.filter.on_response_headers(context, false);
    }

    /// A piece of it passes.
    pub fn piece(&mut self, context: u32, bytes: &[u8], end: bool) {
        self.request(context).piece = bytes.to_vec();
        self.filter.on_response_body(context, bytes.len(), end);
    }

    /// The sum of a counter or a gauge; the number of a histogram's values.
    pub fn metric(&self, name: &str) -> i64 {
        let state = self.host.state();
        let metric = state.metrics.iter().find(|(_, known, _)| known == name);
        metric.map_or(0, |(_, _, values)| values.iter().sum())
    }

    /// The same, of what is handed over at the next tick.
    pub fn metric_at_tick(&mut self, name: &str) -> i64 {
        self.filter.on_tick(ROOT);
        self.metric(name)
    }

    pub fn reason(&self, context: u32) -> String {
        self.request(context).filter_state["warmpath.reason"].clone()
    }

    /// That the request went on untouched by our hands, counted under `reason`.
    pub fn assert_fell_back(&self, context: u32, reason: &str) {
        assert_eq!(self.reason(context), format!("fallback-{reason}"));
        let counter = format!("warmpath_requests_total.reason.fallback-{reason}");
        assert!(self.metric(&counter) > 0, "{counter} is not counted");
        for name in ["x-gateway-destination-endpoint", "x-warmpath-cluster", "x-data-parallel-rank"]
        {
            assert_eq!(self.header(context, name), None, "{name} is set");
        }
    }
}

/// The message in a question.
pub fn route_request(call: &Made) -> RouteRequest {
    assert_eq!(call.path(), "/v1/route");
    assert_eq!(call.headers["content-type"], MESSAGE_PACK);
    rmp_serde::from_slice(&call.body).unwrap()
}
