//! Bodies: held, given up, read.

use warmpath_filter::host::Action;

use crate::host::gateway::{CHAT, Gateway, Start, chat, decision, route_request};

pub fn a_declared_body_that_is_too_large_is_not_held(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"max_body_bytes":50}"#);
    let (context, action) = gateway.post(&chat("tiny"));
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "body_too_large");
    assert_eq!(gateway.body(context, b"more", false), Action::Continue);
    assert_eq!(gateway.body(context, b"", true), Action::Continue);
    assert!(gateway.take_calls().is_empty());
}

pub fn a_chunked_body_that_grows_too_large_is_let_go(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"max_body_bytes":50}"#);
    let (context, action) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    assert_eq!(action, Action::Pause);
    assert_eq!(gateway.body(context, &[b' '; 50], false), Action::Pause);
    assert_eq!(gateway.body(context, b" ", false), Action::Continue);
    assert_eq!(gateway.body(context, &chat("tiny"), true), Action::Continue);
    gateway.assert_fell_back(context, "body_too_large");
    assert_eq!(gateway.request(context).resumed, 0, "it is let go by what is returned");
}

pub fn a_body_in_many_pieces_is_read_as_it_arrives(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, _) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    for piece in chat("tiny").chunks(7) {
        assert_eq!(gateway.body(context, piece, false), Action::Pause);
        assert!(gateway.take_calls().is_empty());
    }
    assert_eq!(gateway.body(context, b"", true), Action::Pause);
    let calls = gateway.take_calls();
    assert_eq!(calls.len(), 1);
    let (_, whole) = gateway.ask("tiny");
    assert_eq!(route_request(&calls[0]).hashes, route_request(&whole).hashes);
    let mut read = 0;
    for (start, length) in &gateway.request(context).reads {
        assert_eq!(*start, read, "each byte is read once, in order");
        read += length;
    }
    assert_eq!(read, chat("tiny").len());
    let id = &calls[0].headers["x-request-id"];
    assert!(!id.is_empty(), "an id is made where Envoy gave none");
}

pub fn what_can_be_no_body_is_let_go_before_its_end(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, _) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    assert_eq!(gateway.body(context, b"}{", false), Action::Continue);
    gateway.assert_fell_back(context, "not_json");
    assert_eq!(gateway.body(context, &chat("tiny"), true), Action::Continue);
    assert_eq!(gateway.request(context).resumed, 0);
}

pub fn trailers_end_a_body(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, _) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    assert_eq!(gateway.body(context, &chat("tiny"), false), Action::Pause);
    assert_eq!(gateway.filter.on_request_trailers(context), Action::Pause);
    let call = gateway.take_calls().remove(0);
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(context).resumed, 1);
    assert_eq!(gateway.reason(context), "prefix");
}

pub fn what_can_not_be_tokenized_falls_back_by_name(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"report":true}"#);
    for (body, reason) in [("{", "not_json"), ("", "no_body"), (r#"{"messages":[]}"#, "no_model")] {
        let (context, action) = gateway.post(body.as_bytes());
        assert_eq!(action, Action::Continue, "{body}");
        gateway.assert_fell_back(context, reason);
        let response = gateway.respond(context);
        assert_eq!(response["x-warmpath-reason"], format!("fallback-{reason}"));
    }
    assert!(gateway.take_calls().is_empty());
    let logs = &gateway.host.state().logs;
    assert!(logs.iter().all(|(_, line)| !line.contains("messages")), "no prompt in {logs:?}");
}
