//! Decisions asked for on the stream.

use warmpath_filter::host::Action;
use warmpath_protocol::stream::{Answer, GREETING, HELD, Held, Question};
use warmpath_protocol::{ErrorBody, brief, code};

use crate::host::gateway::{Gateway, ROOT, Start, chat, decision, local};

/// A gateway whose indexer speaks on the stream, and the stream.
fn greeted(start: Start, configuration: &str) -> (Gateway, u32) {
    let mut gateway = Gateway::ready(start, configuration);
    let stream = gateway.stream();
    gateway.filter.on_stream_message(stream, &GREETING.write());
    (gateway, stream)
}

pub fn before_the_greeting_and_after_the_end_questions_are_calls(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let stream = gateway.stream();
    gateway.ask("tiny");
    gateway.filter.on_stream_message(stream, &GREETING.write());
    gateway.ask_on(stream);
    gateway.filter.on_stream_close(stream);
    assert!(gateway.host.state().streams.is_empty(), "Envoy keeps what is not given up");
    let (context, call) = gateway.ask("tiny");
    gateway.decide(&call, &decision());
    assert_eq!(gateway.reason(context), "prefix");

    gateway.tick();
    let again = gateway.stream();
    assert_ne!(again, stream);
    gateway.take_calls();
    gateway.ask("tiny");
    gateway.filter.on_stream_message(again, &GREETING.write());
    gateway.ask_on(again);
}

pub fn answers_on_the_stream_come_in_any_order(start: Start) {
    let (mut gateway, stream) = greeted(start, "");
    let asked: Vec<_> = (0..3).map(|_| gateway.ask_on(stream)).collect();
    for (context, number) in asked.iter().rev() {
        let mut body = Vec::new();
        assert!(brief::write(&decision(), &mut body));
        let answer = Answer { number: *number, status: 200, body: &body };
        gateway.filter.on_stream_message(stream, &answer.write());
        assert_eq!(gateway.reason(*context), "prefix");
        // Nobody waits for it any more.
        gateway.filter.on_stream_message(stream, &answer.write());
        assert_eq!(gateway.request(*context).resumed, 1);
    }
}

pub fn an_error_on_the_stream_has_its_reason(start: Start) {
    let (mut gateway, stream) = greeted(start, "");
    let (context, number) = gateway.ask_on(stream);
    let body = rmp_serde::to_vec_named(&ErrorBody::new(code::NO_WORKER, "no")).unwrap();
    let answer = Answer { number, status: 503, body: &body };
    gateway.filter.on_stream_message(stream, &answer.write());
    gateway.assert_fell_back(context, "no_worker");
}

pub fn a_stream_that_ends_lets_go_what_was_asked_on_it(start: Start) {
    let (mut gateway, stream) = greeted(start, "");
    let (left, _) = gateway.ask_on(stream);
    gateway.filter.on_delete(left);
    let asked: Vec<_> = (0..2).map(|_| gateway.ask_on(stream).0).collect();
    gateway.filter.on_stream_close(stream);
    for context in asked {
        gateway.assert_fell_back(context, "indexer_unavailable");
        assert_eq!(gateway.request(context).resumed, 1);
    }
    assert_eq!(gateway.request(left).resumed, 0);
}

pub fn the_deadline_holds_on_the_stream(start: Start) {
    let (mut gateway, stream) = greeted(start, r#"{"deadline_ms":20}"#);
    let (context, number) = gateway.ask_on(stream);
    gateway.pass_time(21);
    gateway.filter.on_tick(ROOT);
    gateway.assert_fell_back(context, "indexer_timeout");
    let body = rmp_serde::to_vec_named(&decision()).unwrap();
    let answer = Answer { number, status: 200, body: &body };
    gateway.filter.on_stream_message(stream, &answer.write());
    assert_eq!(gateway.request(context).resumed, 1);
}

pub fn what_is_no_message_of_the_protocol_is_ignored(start: Start) {
    let (mut gateway, stream) = greeted(start, "");
    let (context, number) = gateway.ask_on(stream);
    gateway.filter.on_stream_message(stream, b"");
    gateway.filter.on_stream_message(stream, &[1, 2, 3]);
    gateway.filter.on_stream_message(stream + 7, &GREETING.write());
    gateway.filter.on_stream_close(stream + 7);
    assert_eq!(gateway.request(context).resumed, 0);
    let empty = Answer { number, status: 200, body: b"" };
    gateway.filter.on_stream_message(stream, &empty.write());
    gateway.assert_fell_back(context, "bad_reply");
}

pub fn without_a_stream_there_are_calls(start: Start) {
    let mut gateway = Gateway::new(start, "");
    gateway.host.state().refuse_streams = true;
    gateway.refresh(&crate::host::shelf::Shelf::tiny());
    assert!(gateway.host.state().streams.is_empty());
    let (context, call) = gateway.ask("tiny");
    gateway.filter.on_call_reply(call.token, &local(503));
    gateway.assert_fell_back(context, "indexer_unavailable");
}

pub fn a_stream_that_takes_no_message_falls_back(start: Start) {
    let (mut gateway, _) = greeted(start, "");
    gateway.host.state().streams.clear();
    let (context, action) = gateway.post(&chat("tiny"));
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "indexer_unavailable");
}

pub fn the_stream_goes_with_the_vm(start: Start) {
    let (mut gateway, _) = greeted(start, "");
    gateway.filter.on_delete(ROOT);
    assert!(gateway.host.state().streams.is_empty());
}

fn held(number: u32, hold_ms: u64) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(&Held { hold_ms }).unwrap();
    Answer { number, status: HELD, body: &body }.write()
}

pub fn a_held_question_outlasts_the_deadline_by_as_long_as_it_is_held(start: Start) {
    let (mut gateway, stream) = greeted(start, r#"{"deadline_ms":20}"#);
    let (first, number) = gateway.ask_on(stream);
    gateway.filter.on_stream_message(stream, &held(number, 500));
    gateway.pass_time(490);
    gateway.filter.on_tick(ROOT);
    assert_eq!(gateway.request(first).resumed, 0);
    let mut body = Vec::new();
    assert!(brief::write(&decision(), &mut body));
    let answer = Answer { number, status: 200, body: &body };
    gateway.filter.on_stream_message(stream, &answer.write());
    assert_eq!((gateway.reason(first), gateway.request(first).resumed), ("prefix".into(), 1));

    let (second, number) = gateway.ask_on(stream);
    gateway.filter.on_stream_message(stream, &held(number, 500));
    gateway.pass_time(521);
    gateway.filter.on_tick(ROOT);
    gateway.assert_fell_back(second, "indexer_timeout");
}

pub fn a_held_question_that_nobody_waits_for_is_taken_back(start: Start) {
    let (mut gateway, stream) = greeted(start, "");
    let (asked, _) = gateway.ask_on(stream);
    let (waiting, number) = gateway.ask_on(stream);
    gateway.filter.on_stream_message(stream, &held(number, 500));
    let sent = gateway.host.state().sent.len();
    for context in [asked, waiting] {
        gateway.filter.on_delete(context);
    }
    let state = gateway.host.state();
    let back = Question { number, body: &[] }.write();
    assert_eq!(state.sent[sent..], [(stream, back)], "the other is answered already, or soon");
}

pub fn a_refusal_for_busy_workers_is_answered_with_when_to_come_again(start: Start) {
    let (mut gateway, stream) = greeted(start, r#"{"breaker_failures":1}"#);
    for _ in 0..2 {
        let (context, number) = gateway.ask_on(stream);
        let mut body = ErrorBody::new(code::SATURATED, "busy");
        body.error.retry_after = Some(7);
        let body = rmp_serde::to_vec_named(&body).unwrap();
        let answer = Answer { number, status: 503, body: &body };
        gateway.filter.on_stream_message(stream, &answer.write());
        let answered = gateway.request(context).answered.take();
        let (status, headers, body) = answered.expect("an answer of our own");
        assert_eq!((status, gateway.request(context).resumed), (503, 0));
        assert_eq!(headers["retry-after"], "7");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "saturated");
        assert_eq!(gateway.reason(context), "saturated");
    }
}
