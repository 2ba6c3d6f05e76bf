//! Decisions: what is asked, and what becomes of the answer.

use std::time::Duration;

use warmpath_blocks as blocks;
use warmpath_filter::host::{Action, Reply};
use warmpath_prompt::Endpoint;
use warmpath_protocol::{Hash, Pin, Reason, Score};

use crate::host::gateway::{CHAT, Gateway, ROOT, Start, chat, decision, route_request};
use crate::host::shelf::{BLOCK_SIZE, native_ids};

const DESTINATION: &str = "x-gateway-destination-endpoint";

fn hashes(ids: &[u32], size: u32, seed: u64) -> Vec<Hash> {
    blocks::local_hashes(ids, size as usize, seed).into_iter().map(Hash).collect()
}

pub fn the_question_holds_what_the_engine_will_hash(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"deadline_ms":33,"indexer_cluster":"ix"}"#);
    let body = chat("tiny");
    let (_, call) = gateway.ask_with(&[("traceparent", "00-a-b-01")], &body);
    assert_eq!((call.cluster.as_str(), call.timeout.as_millis()), ("ix", 1033));
    assert_eq!(call.headers["x-request-id"], "r-1");
    assert_eq!(call.headers["traceparent"], "00-a-b-01");
    assert_eq!(call.headers[":method"], "POST");

    let asked = route_request(&call);
    let ids = native_ids(Endpoint::Chat, &body, 1_700_000_000);
    assert!(ids.len() > BLOCK_SIZE as usize * 2);
    assert_eq!(asked.tokens, ids.len() as u64);
    assert_eq!(asked.hashes["4"], hashes(&ids, 4, blocks::SEED));
    assert_eq!(asked.hashes["16"], hashes(&ids, 16, blocks::SEED));
    assert_eq!(asked.hashes.len(), 2);
    assert_eq!((asked.model.as_str(), asked.request_id.as_str()), ("tiny", "r-1"));
    assert_eq!((asked.adapter, asked.cache_salt, asked.token_digest), (None, None, None));
    assert_eq!(gateway.metric_at_tick("warmpath_tokens_total"), ids.len() as i64);
}

pub fn an_adapter_and_a_salt_move_the_hashes(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let body = br#"{"model":"tiny-lora","cache_salt":"s","messages":[{"role":"user","content":"geese and ducks and swans"}]}"#;
    let (_, call) = gateway.ask_with(&[], body);
    let asked = route_request(&call);
    let ids = native_ids(Endpoint::Chat, body, 1_700_000_000);
    let seed = blocks::seed(Some("tiny-lora"), Some("s"));
    assert_eq!(asked.hashes["4"], hashes(&ids, 4, seed));
    assert_eq!(asked.adapter.as_deref(), Some("tiny-lora"));
    assert_eq!(asked.cache_salt.as_deref(), Some("s"));

    let (_, call) = gateway.ask("small");
    assert_eq!(route_request(&call).adapter, None, "an alias is no adapter");
}

pub fn completions_are_asked_for_too(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let body = br#"{"model":"tiny","prompt":["the first one counts, it has many words","x"]}"#;
    let (_, action) = gateway.post_with("/v1/completions", &[], body);
    assert_eq!(action, Action::Pause);
    let asked = route_request(&gateway.take_calls().remove(0));
    let ids = native_ids(Endpoint::Completions, body, 1_700_000_000);
    assert_eq!(asked.hashes["4"], hashes(&ids, 4, blocks::SEED));
}

pub fn a_decision_becomes_the_override_host_header(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    gateway.pass_time(3);
    gateway.decide(&call, &decision());
    let expected = "10.0.0.1:8100,10.0.0.2:8100";
    assert_eq!(gateway.header(context, DESTINATION).as_deref(), Some(expected));
    assert_eq!(gateway.header(context, "x-data-parallel-rank"), None);
    assert_eq!(gateway.request(context).resumed, 1);
    let state = gateway.request(context).filter_state.clone();
    let state: Vec<_> = state.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        state,
        [
            ("warmpath.decision_us", "3000"),
            ("warmpath.overlap", "3/7"),
            ("warmpath.reason", "prefix"),
            ("warmpath.worker", "0"),
        ]
    );
    assert_eq!(gateway.metric_at_tick("warmpath_requests_total.reason.prefix"), 1);
    assert_eq!(gateway.metric_at_tick("warmpath_decision_microseconds"), 3000);
}

pub fn a_decision_becomes_the_cluster_header(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"destination":"cluster_header"}"#);
    let (context, call) = gateway.ask("tiny");
    gateway.decide(&call, &decision());
    assert_eq!(gateway.header(context, "x-warmpath-cluster").as_deref(), Some("worker-0"));
    assert_eq!(gateway.header(context, DESTINATION), None);
}

pub fn a_rank_is_named_where_there_are_several(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"overrides":true,"report":true}"#);
    let (context, call) = gateway.ask_with(&[("x-data-parallel-rank", "9")], &chat("tiny"));
    let mut decision = decision();
    (decision.rank, decision.ranks) = (1, 2);
    gateway.decide(&call, &decision);
    assert_eq!(gateway.header(context, "x-data-parallel-rank").as_deref(), Some("1"));
    assert_eq!(gateway.respond(context)["x-warmpath-worker"], "0:1");
}

pub fn a_pin_a_policy_and_explain_reach_the_indexer(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"overrides":true}"#);
    let wishes =
        [("x-warmpath-worker", "a:2"), ("x-warmpath-policy", "p"), ("x-warmpath-explain", "1")];
    let body = chat("tiny");
    let (context, call) = gateway.ask_with(&wishes, &body);
    let asked = route_request(&call);
    assert_eq!(asked.pin, Some(Pin { worker: "a".into(), rank: Some(2) }));
    assert_eq!(asked.policy.as_deref(), Some("p"));
    assert!(asked.explain);
    let ids = native_ids(Endpoint::Chat, &body, 1_700_000_000);
    assert_eq!(asked.token_digest, Some(Hash(blocks::token_digest(&ids))));
    for (name, _) in wishes {
        assert_eq!(gateway.header(context, name), None, "{name} goes no further");
    }
    let mut decision = decision();
    decision.reason = Reason::Pinned;
    gateway.decide(&call, &decision);
    assert_eq!(gateway.reason(context), "pinned");

    let (context, action) = gateway.post_with(CHAT, &[("x-warmpath-worker", ":1")], &body);
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "bad_pin");
}

pub fn a_pin_does_not_need_a_tokenizer(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"overrides":true}"#);
    let (context, call) = gateway.ask_with(&[("x-warmpath-worker", "3")], &chat("unheard-of"));
    let asked = route_request(&call);
    assert_eq!((asked.model.as_str(), asked.hashes.len()), ("unheard-of", 0));
    assert!(asked.pin.is_some());
    gateway.filter.on_call_reply(
        call.token,
        &crate::host::gateway::refusal(422, warmpath_protocol::code::PIN_UNAVAILABLE),
    );
    gateway.assert_fell_back(context, "pin_unavailable");
}

pub fn the_response_reports_only_where_asked(start: Start) {
    let mut quiet = Gateway::ready(start, "");
    let (context, call) = quiet.ask("tiny");
    quiet.decide(&call, &decision());
    assert!(quiet.respond(context).is_empty());

    let mut gateway = Gateway::ready(start, r#"{"report":true,"overrides":true}"#);
    let (context, call) = gateway.ask("tiny");
    gateway.decide(&call, &decision());
    let response = gateway.respond(context);
    let response: Vec<_> = response.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        response,
        [
            ("x-warmpath-overlap", "3/7"),
            ("x-warmpath-reason", "prefix"),
            ("x-warmpath-worker", "0"),
        ]
    );

    let (context, call) = gateway.ask_with(&[("x-warmpath-explain", "1")], &chat("tiny"));
    let score = |index: usize| Score {
        worker: format!("worker-{index}"),
        rank: 0,
        score: -0.5,
        overlap_blocks: 1,
        predicted_blocks: 0,
        busy: false,
        kv_usage: 0.25,
        waiting: 0.0,
    };
    let mut explained = decision();
    explained.scores = Some((0..1000).map(score).collect());
    gateway.decide(&call, &explained);
    let scores = gateway.respond(context)["x-warmpath-scores"].clone();
    let read: Vec<Score> = serde_json::from_str(&scores).unwrap();
    assert_eq!(read[0], score(0));
    assert!(scores.len() <= 16 << 10, "a header that clients accept, the best first");
}

pub fn a_json_answer_will_do(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let (context, call) = gateway.ask("tiny");
    let body = br#"{"worker":"w","endpoint":"[::1]:80","reason":"load"}"#.to_vec();
    gateway.filter.on_call_reply(call.token, &Reply { status: Some(200), body });
    assert_eq!(gateway.header(context, DESTINATION).as_deref(), Some("[::1]:80"));
    assert_eq!(gateway.reason(context), "load");
}

pub fn the_deadline_counts_from_the_call_and_our_own_work_is_no_waiting(start: Start) {
    let settings = r#"{"deadline_ms":20,"breaker_failures":1,"report":true}"#;
    let mut gateway = Gateway::ready(start, settings);
    gateway.host.state().work = Duration::from_millis(30);
    // Long enough for its reading to be timed.
    let body = [chat("tiny"), vec![b' '; 20_000]].concat();
    let (first, call) = gateway.ask_with(&[], &body);
    assert_eq!(gateway.host.state().tick.as_millis(), 5, "it is looked after");
    let (second, _) = gateway.ask_with(&[], &body);
    gateway.pass_time(19);
    gateway.filter.on_tick(ROOT);
    assert_eq!(gateway.request(first).resumed, 0, "49 ms, of which we worked 30");
    gateway.pass_time(1);
    gateway.filter.on_tick(ROOT);
    for context in [first, second] {
        assert_eq!(gateway.request(context).resumed, 1);
        gateway.assert_fell_back(context, "indexer_timeout");
        assert_eq!(gateway.respond(context)["x-warmpath-reason"], "fallback-indexer_timeout");
    }
    assert_eq!(gateway.metric("warmpath_breaker_open"), 1);
    assert_eq!(gateway.host.state().tick.as_millis(), 1000, "nothing to look after");

    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(first).resumed, 1, "too late");
}
