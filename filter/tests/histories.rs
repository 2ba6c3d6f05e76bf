//! Random histories of several requests, an indexer of changing mood, and
//! clients that leave: whatever the order, every request is let go exactly once.

mod host;

use std::collections::BTreeMap;
use std::time::Duration;

use host::Native;
use host::gateway::{CHAT, Gateway, ROOT, chat, decision, local, refusal};
use host::shelf::Shelf;
use proptest::prelude::*;
use warmpath_filter::host::{Action, Status};
use warmpath_protocol::code;
use warmpath_protocol::stream::{Answer, GREETING, Question};

#[derive(Clone, Debug)]
enum Event {
    Begin { model: &'static str, long: bool },
    Body { request: usize, end: bool },
    Trailers { request: usize },
    Respond { request: usize },
    Leave { request: usize },
    Answer { call: usize, mood: u8 },
    Greet,
    Hang,
    AnswerOnStream { question: usize, mood: u8 },
    Refuse(bool),
    Time(u64),
    Tick,
    Refresh,
    Configure,
}

fn event() -> impl Strategy<Value = Event> {
    let request = 0usize..4;
    prop_oneof![
        3 => (prop_oneof![Just("tiny"), Just("unheard-of")], any::<bool>())
            .prop_map(|(model, long)| Event::Begin { model, long }),
        5 => (request.clone(), any::<bool>()).prop_map(|(request, end)| Event::Body { request, end }),
        1 => request.clone().prop_map(|request| Event::Trailers { request }),
        1 => request.clone().prop_map(|request| Event::Respond { request }),
        1 => request.prop_map(|request| Event::Leave { request }),
        5 => (0usize..4, 0u8..6).prop_map(|(call, mood)| Event::Answer { call, mood }),
        5 => (0usize..4, 0u8..4).prop_map(|(question, mood)| Event::AnswerOnStream { question, mood }),
        2 => Just(Event::Greet),
        1 => Just(Event::Hang),
        1 => any::<bool>().prop_map(Event::Refuse),
        1 => (1u64..200).prop_map(Event::Time),
        5 => Just(Event::Tick),
        1 => Just(Event::Refresh),
        1 => Just(Event::Configure),
    ]
}

/// What Envoy knows of a request that is under way.
struct Live {
    body: Vec<u8>,
    ended: bool,
    held: bool,
}

const SETTINGS: &str =
    r#"{"breaker_failures":2,"breaker_open_ms":100,"report":true,"slice_us":100}"#;

/// A chat of one slice, or of some four.
fn body(model: &str, long: bool) -> Vec<u8> {
    let short = String::from_utf8(chat(model)).unwrap();
    let more = "Nobody knows. ".repeat(if long { 500 } else { 0 });
    short.replace("over?", &format!("over? {more}")).into_bytes()
}

struct World {
    gateway: Gateway,
    live: BTreeMap<u32, Live>,
    calls: Vec<host::Made>,
    /// Stream and number of each question that was asked on one.
    questions: Vec<(u32, u32)>,
    begun: i64,
}

impl World {
    fn new() -> Self {
        let gateway = Gateway::ready(Native::start, SETTINGS);
        // Each step of work is a slice.
        gateway.host.state().look = Duration::from_micros(60);
        Self { gateway, live: BTreeMap::new(), calls: Vec::new(), questions: Vec::new(), begun: 0 }
    }

    fn pick(&self, request: usize) -> Option<u32> {
        self.live.keys().nth(request).copied()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Begin { model, long } => {
                let (context, action) =
                    self.gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
                let held = action == Action::Pause;
                self.begun += 1;
                self.live.insert(context, Live { body: body(model, long), ended: false, held });
            }
            Event::Body { request, end } => {
                let Some(context) = self.pick(request) else { return };
                let live = self.live.get_mut(&context).unwrap();
                if live.ended {
                    return;
                }
                let half = if end { 0 } else { live.body.len() / 2 };
                let rest = live.body.split_off(live.body.len() - half);
                let piece = std::mem::replace(&mut live.body, rest);
                live.ended = end;
                let action = self.gateway.body(context, &piece, end);
                self.after(context, action);
            }
            Event::Trailers { request } => {
                let Some(context) = self.pick(request) else { return };
                let live = self.live.get_mut(&context).unwrap();
                if !std::mem::replace(&mut live.ended, true) {
                    let action = self.gateway.filter.on_request_trailers(context);
                    self.after(context, action);
                }
            }
            Event::Respond { request } => {
                if let Some(context) = self.pick(request) {
                    self.gateway.respond(context);
                }
            }
            Event::Leave { request } => {
                let Some(context) = self.pick(request) else { return };
                let live = self.live.remove(&context).unwrap();
                if live.held && !live.ended {
                    // It was never decided about, so it is not counted.
                    self.begun -= 1;
                }
                self.gateway.filter.on_delete(context);
            }
            Event::Answer { call, mood } => self.answer(call, mood),
            Event::AnswerOnStream { question, mood } => self.answer_on_stream(question, mood),
            Event::Greet => {
                let stream = self.gateway.host.state().streams.last().copied();
                if let Some(stream) = stream {
                    self.gateway.filter.on_stream_message(stream, &GREETING.write());
                }
            }
            Event::Hang => {
                let stream = self.gateway.host.state().streams.last().copied();
                if let Some(stream) = stream {
                    self.letting_go(|world| world.gateway.filter.on_stream_close(stream));
                    assert!(self.gateway.host.state().streams.is_empty(), "not given up");
                }
            }
            Event::Refuse(refuse) => {
                self.gateway.host.state().refuse_calls = refuse.then_some(Status::BAD_ARGUMENT);
            }
            Event::Time(milliseconds) => self.gateway.pass_time(milliseconds),
            Event::Tick => self.letting_go(|world| world.gateway.filter.on_tick(ROOT)),
            Event::Configure => self.letting_go(|world| {
                world.gateway.filter.on_configure(ROOT, SETTINGS.len());
            }),
            Event::Refresh => {
                self.gateway.host.state().refuse_calls = None;
                self.letting_go(|world| world.gateway.refresh(&Shelf::tiny()));
            }
        }
        self.collect();
    }

    /// A request callback returned: held requests only.
    fn after(&mut self, context: u32, action: Action) {
        let live = self.live.get_mut(&context).unwrap();
        assert!(live.held || action == Action::Continue, "what went on is held again");
        live.held = action == Action::Pause;
        self.collect();
    }

    fn collect(&mut self) {
        self.calls.extend(self.gateway.take_calls());
        for (stream, message) in std::mem::take(&mut self.gateway.host.state().sent) {
            self.questions.push((stream, Question::read(&message).unwrap().number));
        }
    }

    fn answer(&mut self, call: usize, mood: u8) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(call % self.calls.len());
        if call.path() == "/v1/lifecycle" {
            return self.gateway.filter.on_call_reply(call.token, &local(200 + u16::from(mood)));
        }
        if call.path() != "/v1/route" {
            return self.gateway.filter.on_call_reply(call.token, &Shelf::tiny().answer(&call));
        }
        self.letting_go(|world| {
            let filter = &mut world.gateway.filter;
            match mood {
                0..=2 => world.gateway.decide(&call, &decision()),
                3 => filter.on_call_reply(call.token, &local(504)),
                4 => filter.on_call_reply(call.token, &local(503)),
                _ => filter.on_call_reply(call.token, &refusal(503, code::NO_WORKER)),
            }
        });
    }

    /// An answer may be late, for a stream that is gone or a question given up.
    fn answer_on_stream(&mut self, question: usize, mood: u8) {
        if self.questions.is_empty() {
            return;
        }
        let (stream, number) = self.questions.remove(question % self.questions.len());
        let decision = rmp_serde::to_vec_named(&decision()).unwrap();
        let answer = match mood {
            0..=2 => Answer { number, status: 200, body: &decision },
            _ => Answer { number, status: 503, body: b"" },
        };
        self.letting_go(|world| world.gateway.filter.on_stream_message(stream, &answer.write()));
    }

    /// Requests may be resumed: those that are held with nothing more to come.
    fn letting_go(&mut self, action: impl FnOnce(&mut Self)) {
        let before = self.resumed();
        action(self);
        for (context, resumed) in self.resumed() {
            if resumed != before[&context] {
                let live = self.live.get_mut(&context).unwrap();
                assert!(live.ended, "resumed with more body to come");
                assert!(std::mem::replace(&mut live.held, false), "let go twice");
            }
        }
    }

    fn resumed(&self) -> BTreeMap<u32, usize> {
        let state = self.gateway.host.state();
        state.requests.iter().map(|(context, held)| (*context, held.resumed)).collect()
    }

    fn finish(mut self) {
        for context in self.live.keys().copied().collect::<Vec<_>>() {
            if !self.live[&context].ended {
                self.live.get_mut(&context).unwrap().ended = true;
                let action = self.gateway.body(context, b"", true);
                self.after(context, action);
            }
        }
        for _ in 0..1000 {
            self.letting_go(|world| world.gateway.filter.on_tick(ROOT));
            self.collect();
        }
        while let Some(call) = self.calls.first() {
            // Polls of the manifest stay unanswered.
            if call.path() == "/v1/route" { self.answer(0, 0) } else { drop(self.calls.remove(0)) }
        }
        while !self.questions.is_empty() {
            self.answer_on_stream(0, 0);
        }
        assert!(self.live.values().all(|live| !live.held), "a request hangs");
        self.gateway.filter.on_tick(ROOT);
        let state = self.gateway.host.state();
        let counters = state.metrics.iter().filter(|(_, name, _)| name.contains("requests_total"));
        let counted: i64 = counters.map(|(_, _, values)| values.iter().sum::<i64>()).sum();
        assert_eq!(counted, self.begun, "each is counted once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_let_go_once(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
        }
        world.finish();
    }
}
