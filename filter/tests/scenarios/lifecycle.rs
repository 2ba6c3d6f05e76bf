//! What the indexer is told of answers.

use std::time::Duration;

use warmpath_filter::host::Reply;
use warmpath_protocol::{LifecycleEvent, LifecycleReport};

use crate::host::Made;
use crate::host::gateway::{Gateway, ROOT, Start, decision, local};

const STREAM: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";
const TOKEN: &[u8] = br#"data: {"choices":[{"delta":{"content":"w"}}]}"#;
const USAGE: &[u8] =
    br#"data: {"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":32}}}"#;

/// A request that was routed and is being answered.
fn answered(gateway: &mut Gateway, status: u16, content: &str) -> u32 {
    let (context, call) = gateway.ask("tiny");
    gateway.decide(&call, &decision());
    gateway.answer_begins(context, status, content);
    context
}

fn ends(gateway: &mut Gateway, context: u32) {
    gateway.filter.on_delete(context);
}

/// The batch that a tick sends.
fn told(gateway: &mut Gateway) -> Option<(Made, Vec<LifecycleReport>)> {
    gateway.pass_time(500);
    gateway.filter.on_tick(ROOT);
    let mut calls = gateway.take_calls();
    calls.retain(|call| call.path() == "/v1/lifecycle");
    assert!(calls.len() <= 1, "one call a tick");
    let call = calls.pop()?;
    assert_eq!(call.headers["content-type"], "application/msgpack");
    let reports = rmp_serde::from_slice(&call.body).unwrap();
    gateway.filter.on_call_reply(call.token, &Reply { status: Some(200), body: Vec::new() });
    Some((call, reports))
}

fn events(gateway: &mut Gateway) -> Vec<(LifecycleEvent, Option<u64>, Option<u64>)> {
    let reports = told(gateway).map(|(_, reports)| reports).unwrap_or_default();
    assert!(reports.iter().all(|report| report.request_id == "r-1"));
    reports.into_iter().map(|r| (r.event, r.tokens, r.cached_tokens)).collect()
}

pub fn a_streamed_answer_is_told_in_batches(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 200, STREAM);
    assert_eq!(events(&mut gateway), [], "headers are no token");
    gateway.piece(context, TOKEN, false);
    assert!(gateway.take_calls().is_empty(), "not in the callback");
    assert!(gateway.host.state().tick <= Duration::from_millis(25));
    assert_eq!(events(&mut gateway), [(LifecycleEvent::FirstToken, Some(1), None)]);
    for _ in 0..9 {
        gateway.piece(context, TOKEN, false);
    }
    assert_eq!(events(&mut gateway), [(LifecycleEvent::Output, Some(10), None)]);
    assert_eq!(events(&mut gateway), [], "nothing new");
    gateway.piece(context, USAGE, false);
    gateway.piece(context, b"", true);
    ends(&mut gateway, context);
    assert_eq!(events(&mut gateway), [(LifecycleEvent::Done, Some(11), Some(32))]);
    assert!(gateway.host.state().tick > Duration::from_millis(100), "nothing to do");
}

pub fn a_whole_answer_tells_what_the_engine_had_cached(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 200, JSON);
    let long = [" ".repeat(10_000).as_bytes(), USAGE].concat();
    gateway.piece(context, &long, false);
    gateway.piece(context, b"}", true);
    ends(&mut gateway, context);
    assert_eq!(events(&mut gateway), [(LifecycleEvent::Done, None, Some(32))]);
}

pub fn who_leaves_aborts(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 200, STREAM);
    gateway.piece(context, TOKEN, false);
    ends(&mut gateway, context);
    let (context, call) = gateway.ask("tiny");
    gateway.decide(&call, &decision());
    ends(&mut gateway, context);
    assert_eq!(
        events(&mut gateway),
        [
            (LifecycleEvent::FirstToken, Some(1), None),
            (LifecycleEvent::Aborted, Some(1), None),
            (LifecycleEvent::Aborted, None, None),
        ]
    );
}

pub fn an_error_teaches_no_first_token(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 503, JSON);
    gateway.piece(context, b"{}", true);
    ends(&mut gateway, context);
    assert_eq!(events(&mut gateway), [(LifecycleEvent::Aborted, None, None)]);
}

pub fn what_was_not_routed_is_not_told(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    gateway.filter.on_call_reply(call.token, &local(503));
    gateway.answer_begins(context, 200, STREAM);
    gateway.piece(context, TOKEN, true);
    ends(&mut gateway, context);
    let (left, _) = gateway.ask("tiny");
    ends(&mut gateway, left);
    assert_eq!(events(&mut gateway), []);
    assert_eq!(gateway.metric("warmpath_requests_total.reason.client_gone"), 1);
}

pub fn the_operator_chooses_how_much_is_told(start: Start) {
    for (detail, expected) in [("off", 0), ("coarse", 2), ("full", 3)] {
        let mut gateway = Gateway::ready(start, &format!(r#"{{"lifecycle":"{detail}"}}"#));
        let context = answered(&mut gateway, 200, STREAM);
        gateway.piece(context, TOKEN, false);
        gateway.piece(context, USAGE, false);
        let mut all = events(&mut gateway);
        all.extend(events(&mut gateway));
        gateway.piece(context, b"", true);
        ends(&mut gateway, context);
        all.extend(events(&mut gateway));
        assert_eq!(all.len(), expected, "{detail}: {all:?}");
        let cached = all.last().and_then(|(_, _, cached)| *cached);
        assert_eq!(cached.is_some(), detail == "full");
    }
}

/// Envoy's timer starts anew whenever its period is set.
pub fn requests_one_after_the_other_do_not_hold_up_the_timer(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let before = gateway.host.state().timers;
    for _ in 0..100 {
        let context = answered(&mut gateway, 200, STREAM);
        gateway.piece(context, TOKEN, true);
        ends(&mut gateway, context);
    }
    let set = gateway.host.state().timers - before;
    assert!(set <= 1, "set {set} times, and never rang");
    assert!(gateway.host.state().tick <= Duration::from_millis(25));
    assert_eq!(told(&mut gateway).unwrap().1.len(), 200);
}

pub fn pieces_cost_nothing(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 200, STREAM);
    for _ in 0..100 {
        gateway.piece(context, TOKEN, false);
    }
    assert_eq!(gateway.request(context).looks, 1, "the first is looked at");
}

pub fn reports_are_bounded_and_losses_counted(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 200, STREAM);
    gateway.piece(context, TOKEN, false);
    gateway.pass_time(500);
    gateway.filter.on_tick(ROOT);
    let mut calls = gateway.take_calls();
    calls.retain(|call| call.path() == "/v1/lifecycle");
    gateway.piece(context, b"", true);
    ends(&mut gateway, context);
    assert_eq!(events(&mut gateway), [], "one call at a time");
    gateway.filter.on_call_reply(calls[0].token, &local(503));
    assert_eq!(gateway.metric("warmpath_lifecycle_lost_total.reason.call"), 1);
    assert_eq!(events(&mut gateway).len(), 1, "the next goes on");

    for _ in 0..4100 {
        let context = answered(&mut gateway, 200, STREAM);
        gateway.filter.on_delete(context);
    }
    assert_eq!(gateway.metric("warmpath_lifecycle_lost_total.reason.queue_full"), 4);
}

pub fn trailers_end_an_answer(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let context = answered(&mut gateway, 200, STREAM);
    gateway.piece(context, TOKEN, false);
    gateway.filter.on_response_trailers(context);
    ends(&mut gateway, context);
    assert_eq!(events(&mut gateway)[1].0, LifecycleEvent::Done);
}
