//! Whatever goes wrong: the request goes on, and a counter says why.

use warmpath_filter::host::{Action, Reply, Status};
use warmpath_protocol::code;

use crate::host::gateway::{CHAT, Gateway, Start, chat, decision, local, refusal};

pub fn every_failed_answer_has_its_reason(start: Start) {
    // A breaker that stays out of the way.
    let mut gateway = Gateway::ready(start, r#"{"breaker_failures":1000}"#);
    let text = |body: &[u8]| Reply { status: Some(200), body: body.to_vec() };
    for (reply, reason) in [
        (local(504), "indexer_timeout"),
        (local(503), "indexer_unavailable"),
        (local(500), "indexer_error"),
        (local(404), "indexer_error"),
        (local(302), "indexer_error"),
        (refusal(500, code::INTERNAL), "indexer_error"),
        (refusal(400, code::BAD_REQUEST), "indexer_error"),
        (refusal(503, code::NO_WORKER), "no_worker"),
        (refusal(404, code::UNKNOWN_MODEL), "unknown_model"),
        (refusal(422, code::PIN_UNAVAILABLE), "pin_unavailable"),
        (refusal(422, code::UNKNOWN_POLICY), "unknown_policy"),
        (refusal(422, code::NOT_EXACT), "not_exact"),
        (text(b""), "bad_reply"),
        (text(b"{}"), "bad_reply"),
        (text(b"hello"), "bad_reply"),
        (text(&[0xde, 0xff, 0xff]), "bad_reply"),
    ] {
        let (context, call) = gateway.ask("tiny");
        gateway.filter.on_call_reply(call.token, &reply);
        gateway.assert_fell_back(context, reason);
        assert_eq!(gateway.request(context).resumed, 1);
    }
}

pub fn a_call_that_can_not_start_falls_back(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    gateway.host.state().refuse_calls = Some(Status::BAD_ARGUMENT);
    let (context, action) = gateway.post(&chat("tiny"));
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "indexer_unavailable");
    assert_eq!(gateway.request(context).resumed, 0);
}

pub fn an_answer_without_status_is_an_unreachable_indexer(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    gateway.filter.on_call_reply(call.token, &Reply::default());
    gateway.assert_fell_back(context, "indexer_unavailable");
}

pub fn an_unusable_decision_is_a_bad_reply(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"breaker_failures":1000}"#);
    for broken in ["", "a b", "10.0.0.1:1\r\nx-evil: 1", "10.0.0.1:1,10.0.0.9:1"] {
        let (context, call) = gateway.ask("tiny");
        let mut decision = decision();
        decision.endpoint = broken.to_owned();
        gateway.decide(&call, &decision);
        gateway.assert_fell_back(context, "bad_reply");
    }
}

pub fn a_late_answer_is_ignored(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    gateway.filter.on_delete(context);
    assert_eq!(gateway.metric("warmpath_requests_total.reason.client_gone"), 1);
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(context).resumed, 0);
    assert_eq!(gateway.metric_at_tick("warmpath_requests_total.reason.prefix"), 0);
}

pub fn an_answer_nobody_waits_for_is_ignored(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    gateway.filter.on_call_reply(call.token + 7, &local(200));
    gateway.decide(&call, &decision());
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(context).resumed, 1);
}

pub fn a_header_that_envoy_refuses_falls_back(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    // What Envoy without `allow_on_headers_stop_iteration` would do.
    gateway.request(context).resumed = 1;
    gateway.decide(&call, &decision());
    assert_eq!(gateway.reason(context), "fallback-header_refused");
    assert_eq!(gateway.request(context).resumed, 2);
}

pub fn failures_in_a_row_open_the_breaker_and_one_probe_closes_it(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"breaker_failures":2,"breaker_open_ms":100}"#);
    for _ in 0..2 {
        let (_, call) = gateway.ask("tiny");
        gateway.filter.on_call_reply(call.token, &local(504));
    }
    assert_eq!(gateway.metric("warmpath_breaker_open"), 1);
    gateway.pass_time(99);
    let (context, action) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    assert_eq!(action, Action::Continue, "not even held");
    gateway.assert_fell_back(context, "breaker_open");

    gateway.pass_time(1);
    // Two are held; the first to be complete is the probe.
    let (late, _) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    let (probe, call) = gateway.ask("tiny");
    assert_eq!(gateway.body(late, &chat("tiny"), true), Action::Continue);
    gateway.assert_fell_back(late, "breaker_open");

    // The client of the probe leaves; its answer counts all the same.
    gateway.filter.on_delete(probe);
    gateway.decide(&call, &decision());
    assert_eq!(gateway.metric("warmpath_breaker_open"), 0);
    gateway.ask("tiny");
}

pub fn answers_about_the_request_leave_the_breaker_closed(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"breaker_failures":1}"#);
    for code in [code::NO_WORKER, code::UNKNOWN_MODEL, code::PIN_UNAVAILABLE] {
        let (_, call) = gateway.ask("tiny");
        gateway.filter.on_call_reply(call.token, &refusal(503, code));
    }
    gateway.ask("tiny");
}
