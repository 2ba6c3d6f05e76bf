//! A proxy-wasm host for tests: what Envoy would hold, as plain data.
//!
//! The state machine uses it directly (`Vm<Fake>`), the compiled module through
//! the imports in [`wasm`]; every scenario runs against both.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use warmpath_filter::host::{Action, Call, Headers, Host, Level, MetricKind, Reply, Status, pairs};
use warmpath_filter::vm::Vm;

pub mod gateway;
pub mod shelf;
pub mod wasm;

/// The callbacks of a filter, whichever way it runs.
pub trait Filter {
    fn on_context_create(&mut self, context: u32, root: u32);
    fn on_configure(&mut self, context: u32, size: usize);
    fn on_tick(&mut self, context: u32);
    fn on_request_headers(&mut self, context: u32, end_of_stream: bool) -> Action;
    fn on_request_body(&mut self, context: u32, size: usize, end_of_stream: bool) -> Action;
    fn on_request_trailers(&mut self, context: u32) -> Action;
    fn on_response_headers(&mut self, context: u32, end_of_stream: bool);
    fn on_response_body(&mut self, context: u32, size: usize, end_of_stream: bool);
    fn on_response_trailers(&mut self, context: u32);
    fn on_call_reply(&mut self, token: u32, reply: &Reply);
    fn on_stream_message(&mut self, token: u32, message: &[u8]);
    fn on_stream_close(&mut self, token: u32);
    fn on_delete(&mut self, context: u32);
}

/// A call that the filter made.
#[derive(Clone, Debug)]
pub struct Made {
    pub token: u32,
    pub cluster: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub timeout: Duration,
}

impl Made {
    pub fn path(&self) -> &str {
        &self.headers[":path"]
    }
}

/// One request as Envoy holds it.
#[derive(Debug, Default)]
pub struct Held {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub response_headers: BTreeMap<String, String>,
    /// The piece of the answer that passes.
    pub piece: Vec<u8>,
    /// How often the answer was looked at.
    pub looks: usize,
    pub filter_state: BTreeMap<String, String>,
    /// How often it was resumed.
    pub resumed: usize,
    /// What it was answered in a worker's place.
    pub answered: Option<(u32, BTreeMap<String, String>, Vec<u8>)>,
    /// Start and length of each piece of the body that was read.
    pub reads: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
pub struct State {
    pub now: Duration,
    /// How long it takes to read a piece of a body.
    pub work: Duration,
    /// By so much the clock is on at each look at it.
    pub look: Duration,
    pub configuration: Vec<u8>,
    pub tick: Duration,
    /// How often it was set, each time starting anew.
    pub timers: usize,
    pub requests: BTreeMap<u32, Held>,
    /// The context of the running callback, and the one chosen instead of it.
    pub current: u32,
    pub chosen: Option<u32>,
    pub calls: Vec<Made>,
    pub next_token: u32,
    /// The streams that are open, and what was sent on any.
    pub streams: Vec<u32>,
    pub sent: Vec<(u32, Vec<u8>)>,
    /// No stream can be opened.
    pub refuse_streams: bool,
    /// Every call is refused with this.
    pub refuse_calls: Option<Status>,
    /// The running callback's answer to a call.
    pub reply: Reply,
    pub metrics: Vec<(MetricKind, String, Vec<i64>)>,
    pub logs: Vec<(Level, String)>,
}

/// The host; clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Fake(Rc<RefCell<State>>);

impl Fake {
    pub fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// What a callback for `context` begins with.
    pub fn enter(&self, context: u32) {
        let mut state = self.state();
        state.current = context;
        state.chosen = None;
    }

    fn with_request<T>(&self, action: impl FnOnce(&mut Held) -> T) -> Result<T, Status> {
        let mut state = self.state();
        let context = state.chosen.unwrap_or(state.current);
        state.requests.get_mut(&context).map(action).ok_or(Status::BAD_ARGUMENT)
    }

    /// Envoy takes no request header once the request went on.
    fn with_headers<T>(
        &self,
        action: impl FnOnce(&mut Vec<(String, String)>) -> T,
    ) -> Result<T, Status> {
        self.with_request(|request| {
            if request.resumed > 0 {
                Err(Status::BAD_ARGUMENT)
            } else {
                Ok(action(&mut request.headers))
            }
        })?
    }

    fn change_metric(&self, id: u32, value: i64) -> Result<(), Status> {
        let mut state = self.state();
        let metric = state.metrics.get_mut(id as usize).ok_or(Status::BAD_ARGUMENT)?;
        if metric.0 == MetricKind::Counter && value < 0 {
            return Err(Status::BAD_ARGUMENT);
        }
        metric.2.push(value);
        Ok(())
    }
}

impl Host for Fake {
    fn now(&self) -> Duration {
        let mut state = self.state();
        let look = state.look;
        state.now += look;
        state.now
    }

    fn log(&self, level: Level, message: &str) {
        self.state().logs.push((level, message.to_owned()));
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status> {
        Ok(self.state().configuration[..size].to_vec())
    }

    fn tick_every(&self, period: Duration) -> Result<(), Status> {
        let mut state = self.state();
        state.tick = period;
        state.timers += 1;
        Ok(())
    }

    fn act_for(&self, context: u32) -> Result<(), Status> {
        self.state().chosen = Some(context);
        Ok(())
    }

    fn request_headers(&self) -> Result<Headers, Status> {
        self.with_headers(|headers| headers_of(headers.iter().map(|(n, v)| (&n[..], &v[..]))))
    }

    fn set_request_header(&self, name: &str, value: &str) -> Result<(), Status> {
        self.remove_request_header(name)?;
        self.with_headers(|headers| headers.push((name.to_owned(), value.to_owned())))
    }

    fn remove_request_header(&self, name: &str) -> Result<(), Status> {
        self.with_headers(|headers| headers.retain(|(known, _)| known != name))
    }

    fn request_body(&self, start: usize, length: usize) -> Result<Vec<u8>, Status> {
        let work = self.state().work;
        self.state().now += work;
        self.with_request(|request| {
            request.reads.push((start, length));
            request.body[start..][..length].to_vec()
        })
    }

    fn resume_request(&self) -> Result<(), Status> {
        self.with_request(|request| request.resumed += 1)
    }

    fn response_headers(&self) -> Result<Headers, Status> {
        self.with_request(|request| {
            headers_of(request.response_headers.iter().map(|(n, v)| (&n[..], &v[..])))
        })
    }

    fn response_body(&self, start: usize, length: usize) -> Result<Vec<u8>, Status> {
        self.with_request(|request| {
            request.looks += 1;
            request.piece[start..][..length].to_vec()
        })
    }

    fn set_response_header(&self, name: &str, value: &str) -> Result<(), Status> {
        self.with_request(|request| {
            request.response_headers.insert(name.to_owned(), value.to_owned());
        })
    }

    fn set_filter_state(&self, name: &str, value: &str) -> Result<(), Status> {
        self.with_request(|request| {
            request.filter_state.insert(name.to_owned(), value.to_owned());
        })
    }

    fn answer(&self, status: u32, headers: &[(&str, &str)], body: &[u8]) -> Result<(), Status> {
        let owned = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let answer = (status, owned.collect(), body.to_vec());
        self.with_request(|request| {
            assert!(request.resumed == 0 && request.answered.is_none(), "one or the other, once");
            request.answered = Some(answer);
        })
    }

    fn call(&self, call: &Call<'_>) -> Result<u32, Status> {
        let mut state = self.state();
        if let Some(status) = state.refuse_calls {
            return Err(status);
        }
        let headers: BTreeMap<String, String> =
            call.headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        for name in [":method", ":path", ":authority"] {
            assert!(headers.contains_key(name), "Envoy refuses a call without {name}");
        }
        state.next_token += 1;
        let made = Made {
            token: state.next_token,
            cluster: call.cluster.to_owned(),
            headers,
            body: call.body.to_vec(),
            timeout: call.timeout,
        };
        state.calls.push(made);
        Ok(state.next_token)
    }

    fn open_stream(&self, cluster: &str, service: &str, method: &str) -> Result<u32, Status> {
        let mut state = self.state();
        if state.refuse_streams {
            return Err(Status::INTERNAL_FAILURE);
        }
        assert!(!cluster.is_empty());
        assert_eq!(format!("/{service}/{method}"), warmpath_protocol::stream::STREAM_PATH);
        state.next_token += 1;
        let token = state.next_token;
        state.streams.push(token);
        Ok(token)
    }

    fn send_on_stream(&self, token: u32, message: &[u8]) -> Result<(), Status> {
        let mut state = self.state();
        if !state.streams.contains(&token) {
            return Err(Status::BAD_ARGUMENT);
        }
        state.sent.push((token, message.to_vec()));
        Ok(())
    }

    fn close_stream(&self, token: u32) -> Result<(), Status> {
        self.state().streams.retain(|open| *open != token);
        Ok(())
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<u32, Status> {
        let mut state = self.state();
        let known = state.metrics.iter().position(|(_, known, _)| known == name);
        let index = known.unwrap_or(state.metrics.len());
        if known.is_none() {
            state.metrics.push((kind, name.to_owned(), Vec::new()));
        }
        Ok(index as u32)
    }

    fn add_to_metric(&self, id: u32, difference: i64) -> Result<(), Status> {
        self.change_metric(id, difference)
    }

    fn record_in_metric(&self, id: u32, value: u64) -> Result<(), Status> {
        self.change_metric(id, value as i64)
    }
}

fn headers_of<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Headers {
    Headers::read(pairs::write(&headers.collect::<Vec<_>>())).unwrap()
}

/// The state machine itself, compiled natively.
pub struct Native {
    host: Fake,
    vm: Vm<Fake>,
}

impl Native {
    pub fn start(host: &Fake) -> Box<dyn Filter> {
        Box::new(Self { host: host.clone(), vm: Vm::new(host.clone()) })
    }
}

impl Filter for Native {
    fn on_context_create(&mut self, context: u32, root: u32) {
        self.host.enter(context);
        self.vm.on_context_create(context, root);
    }

    fn on_configure(&mut self, context: u32, size: usize) {
        self.host.enter(context);
        self.vm.on_configure(context, size);
    }

    fn on_tick(&mut self, context: u32) {
        self.host.enter(context);
        self.vm.on_tick(context);
    }

    fn on_request_headers(&mut self, context: u32, end_of_stream: bool) -> Action {
        self.host.enter(context);
        self.vm.on_request_headers(context, end_of_stream)
    }

    fn on_request_body(&mut self, context: u32, size: usize, end_of_stream: bool) -> Action {
        self.host.enter(context);
        self.vm.on_request_body(context, size, end_of_stream)
    }

    fn on_request_trailers(&mut self, context: u32) -> Action {
        self.host.enter(context);
        self.vm.on_request_trailers(context)
    }

    fn on_response_headers(&mut self, context: u32, end_of_stream: bool) {
        self.host.enter(context);
        self.vm.on_response_headers(context, end_of_stream);
    }

    fn on_response_body(&mut self, context: u32, size: usize, end_of_stream: bool) {
        self.host.enter(context);
        self.vm.on_response_body(context, size, end_of_stream);
    }

    fn on_response_trailers(&mut self, context: u32) {
        self.host.enter(context);
        self.vm.on_response_trailers(context);
    }

    fn on_call_reply(&mut self, token: u32, reply: &Reply) {
        self.host.enter(gateway::ROOT);
        self.vm.on_call_reply(token, reply);
    }

    fn on_stream_message(&mut self, token: u32, message: &[u8]) {
        self.host.enter(gateway::ROOT);
        self.vm.on_stream_message(token, message);
    }

    fn on_stream_close(&mut self, token: u32) {
        self.host.enter(gateway::ROOT);
        self.vm.on_stream_close(token);
    }

    fn on_delete(&mut self, context: u32) {
        self.host.enter(context);
        self.vm.on_delete(context);
    }
}
