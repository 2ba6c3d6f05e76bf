//! Headers: whose request it is, and what no client may set.

use warmpath_filter::host::{Action, Level};

use crate::host::gateway::{CHAT, Gateway, Start, chat};

const FORGED: [(&str, &str); 6] = [
    ("x-gateway-destination-endpoint", "6.6.6.6:66"),
    ("x-warmpath-cluster", "admin"),
    ("x-warmpath-worker", "3"),
    ("x-warmpath-later-invention", "1"),
    ("x-data-parallel-rank", "7"),
    ("x-gateway-destination-endpoint", "6.6.6.7:66"),
];

pub fn client_copies_of_our_headers_are_removed_on_every_method(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    for (method, path) in [("GET", "/v1/models"), ("DELETE", CHAT), ("POST", "/x"), ("POST", CHAT)]
    {
        for end_of_stream in [true, false] {
            let mut headers = vec![(":method", method), (":path", path), ("x-mine", "1")];
            headers.extend(FORGED);
            let (context, _) = gateway.begin(&headers, end_of_stream);
            let left = gateway.request(context).headers.len();
            assert_eq!(left, 3, "{method} {path} {end_of_stream}");
        }
    }
}

pub fn with_overrides_only_the_forged_destination_is_removed(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"overrides":true}"#);
    let mut headers = vec![(":method", "GET"), (":path", "/v1/models")];
    headers.extend(FORGED);
    let (context, _) = gateway.begin(&headers, true);
    assert_eq!(gateway.header(context, "x-data-parallel-rank").as_deref(), Some("7"));
    assert_eq!(gateway.request(context).headers.len(), 3);
}

pub fn without_overrides_a_pin_is_not_heard(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (_, call) = gateway.ask_with(
        &[("x-warmpath-worker", "3"), ("x-warmpath-policy", "p"), ("x-warmpath-explain", "1")],
        &chat("tiny"),
    );
    let asked = crate::host::gateway::route_request(&call);
    assert_eq!((asked.pin, asked.policy, asked.explain), (None, None, false));
}

pub fn what_is_not_a_prompt_passes_at_once(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    for (method, path) in [("GET", CHAT), ("POST", "/v1/files"), ("PUT", CHAT), ("POST", "")] {
        let (context, action) = gateway.begin(&[(":method", method), (":path", path)], false);
        assert_eq!(action, Action::Continue, "{method} {path}");
        assert_eq!(gateway.body(context, b"{}", true), Action::Continue);
        assert!(gateway.request(context).filter_state.is_empty(), "it is not counted");
        assert!(gateway.respond(context).is_empty());
    }
    assert!(gateway.take_calls().is_empty());
}

pub fn a_prefix_before_the_path_and_a_query_behind_it_do_not_matter(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (_, action) = gateway.post_with("/eu/v1/chat/completions?trace=1", &[], &chat("tiny"));
    assert_eq!(action, Action::Pause);
}

pub fn a_post_without_a_body_falls_back(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, action) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], true);
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "no_body");
}

pub fn a_bad_configuration_passes_requests_and_strips_headers(start: Start) {
    let mut gateway = Gateway::new(start, r#"{"deadline":1,"reports":true}"#);
    let logged = gateway.host.state().logs.clone();
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0].0, Level::Error);
    for part in ["\"deadline\"", "deadline_ms", "\"reports\"", "report"] {
        assert!(logged[0].1.contains(part), "{part} is not in {}", logged[0].1);
    }
    gateway.tick();
    assert!(gateway.take_calls().is_empty());
    let (context, action) = gateway.post_with(CHAT, &FORGED, &chat("tiny"));
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "bad_config");
}
