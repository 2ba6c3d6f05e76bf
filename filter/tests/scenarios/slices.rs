//! Long prompts, worked off between other requests.

use std::time::Duration;

use warmpath_filter::host::Action;
use warmpath_prompt::Endpoint;
use warmpath_protocol::ManifestModel;

use crate::host::gateway::{CHAT, Gateway, ROOT, Start, chat, decision, route_request};
use crate::host::shelf::{BLOCK_SIZE, Shelf, native_ids};

const TICKS: usize = 2000;

/// A gateway on whose clock every step of work takes more than half a slice.
fn slow(start: Start, settings: &str) -> Gateway {
    let gateway = Gateway::ready(start, settings);
    gateway.host.state().look = Duration::from_micros(60);
    gateway
}

const SLICES: &str = r#"{"slice_us":100,"deadline_ms":2000}"#;

/// A chat of some ten slices.
fn long_chat(topic: &str) -> Vec<u8> {
    let text = format!("What became of {topic}, and who was there to see it happen? ").repeat(300);
    format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"{text}"}}]}}"#).into_bytes()
}

/// A request that waits for its next slice.
fn begun(gateway: &mut Gateway, topic: &str) -> u32 {
    let (context, action) = gateway.post(&long_chat(topic));
    assert_eq!(action, Action::Pause);
    assert!(gateway.take_calls().is_empty(), "{topic} took one slice");
    context
}

/// Ticks until the indexer is asked; how many it took, and the question.
fn worked_off(gateway: &mut Gateway) -> (usize, crate::host::Made) {
    for tick in 1..=TICKS {
        gateway.filter.on_tick(ROOT);
        let mut calls = gateway.take_calls();
        calls.retain(|call| call.path() == "/v1/route");
        if let Some(call) = calls.pop() {
            return (tick, call);
        }
    }
    panic!("no end after {TICKS} slices");
}

pub fn a_long_prompt_is_worked_off_tick_by_tick(start: Start) {
    let mut gateway = slow(start, SLICES);
    let context = begun(&mut gateway, "the geese");
    assert_eq!(gateway.host.state().tick, Duration::from_millis(1));
    assert_eq!(gateway.request(context).resumed, 0);
    let (ticks, call) = worked_off(&mut gateway);
    assert!(ticks > 3, "{ticks}");
    let body = long_chat("the geese");
    let ids = native_ids(Endpoint::Chat, &body, 1_700_000_000);
    let asked = route_request(&call);
    assert_eq!(asked.tokens, ids.len() as u64);
    assert_eq!(asked.hashes["4"].len(), ids.len() / BLOCK_SIZE as usize);
    assert_eq!(asked.hashes["4"], whole(start, &body).hashes["4"]);
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(context).resumed, 1);
    assert_eq!(gateway.reason(context), "prefix");
    gateway.filter.on_tick(ROOT);
    assert!(gateway.host.state().tick > Duration::from_millis(100), "nothing to do");
}

/// The question of a body that is worked off at once.
fn whole(start: Start, body: &[u8]) -> warmpath_protocol::RouteRequest {
    let (_, call) = Gateway::ready(start, "").ask_with(&[], body);
    route_request(&call)
}

pub fn a_short_prompt_does_not_wait_behind_a_long_one(start: Start) {
    let mut gateway = slow(start, SLICES);
    let long = begun(&mut gateway, "the ducks");
    let (short, call) = gateway.ask("tiny");
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(short).resumed, 1);
    assert_eq!(gateway.request(long).resumed, 0);
    let (_, call) = worked_off(&mut gateway);
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(long).resumed, 1);
}

pub fn long_prompts_take_turns(start: Start) {
    let mut alone = slow(start, SLICES);
    begun(&mut alone, "a swan");
    let (ticks, _) = worked_off(&mut alone);

    let mut gateway = slow(start, SLICES);
    let contexts = ["a swan", "a coot", "a loon"].map(|topic| begun(&mut gateway, topic));
    let (first, call) = worked_off(&mut gateway);
    gateway.decide(&call, &decision());
    assert!(first > 2 * ticks, "{first} and alone {ticks}: the others had their turns");
    for _ in 1..contexts.len() {
        let (more, call) = worked_off(&mut gateway);
        assert!(more <= ticks, "{more} and alone {ticks}: they were nearly done as well");
        gateway.decide(&call, &decision());
    }
    assert!(contexts.iter().all(|context| gateway.request(*context).resumed == 1));
}

pub fn a_client_that_leaves_ends_its_work(start: Start) {
    let mut gateway = slow(start, SLICES);
    let context = begun(&mut gateway, "the heron");
    gateway.filter.on_delete(context);
    gateway.filter.on_tick(ROOT);
    assert!(gateway.host.state().tick > Duration::from_millis(1), "nothing to do");
    assert_eq!(gateway.metric("warmpath_requests_total.reason.client_gone"), 1);
    for _ in 0..20 {
        gateway.filter.on_tick(ROOT);
    }
    assert!(gateway.take_calls().iter().all(|call| call.path() != "/v1/route"));
}

pub fn a_model_that_is_replaced_meanwhile_finishes_its_prompts(start: Start) {
    let mut gateway = slow(start, SLICES);
    begun(&mut gateway, "the plover");
    let shelf = Shelf::tiny();
    let mut other = shelf.clone();
    let model: ManifestModel = shelf.manifest.models[0].clone();
    let old = &shelf.files[&format!("/v1/tables/{}", model.spec.clone().unwrap().sha256)];
    let spec = other.put([old.as_slice(), b"\n"].concat(), warmpath_prompt::SPEC_FORMAT);
    other.publish(ManifestModel { spec: Some(spec), block_sizes: vec![8], ..model });
    gateway.refresh(&other);
    let asked = worked_off(&mut gateway).1;
    let body = long_chat("the plover");
    assert_eq!(route_request(&asked).hashes, whole(start, &body).hashes);

    // And where it is taken away.
    begun(&mut gateway, "the snipe");
    other.manifest.models.clear();
    other.manifest.revision = "empty".into();
    gateway.refresh(&other);
    let asked = worked_off(&mut gateway).1;
    assert_eq!(route_request(&asked).hashes.keys().collect::<Vec<_>>(), ["8"]);
}

pub fn a_new_configuration_lets_all_requests_go(start: Start) {
    let mut gateway = slow(start, SLICES);
    let (asked, call) = gateway.ask("tiny");
    let working = begun(&mut gateway, "the crane");
    let (arriving, _) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    assert_eq!(gateway.body(arriving, b"{", false), Action::Pause);
    gateway.filter.on_configure(ROOT, SLICES.len());
    for context in [asked, working] {
        gateway.assert_fell_back(context, "reconfigured");
        assert_eq!(gateway.request(context).resumed, 1);
    }
    gateway.decide(&call, &decision());
    assert_eq!(gateway.request(asked).resumed, 1);
    assert_eq!(gateway.body(arriving, &chat("tiny")[1..], true), Action::Continue);
    assert_eq!(gateway.request(arriving).resumed, 0, "it is let go by what is returned");
    gateway.assert_fell_back(arriving, "no_manifest");
}

pub fn more_work_than_can_be_held_is_let_go(start: Start) {
    let mut gateway = slow(start, SLICES);
    for turn in 0..256 {
        begun(&mut gateway, &format!("swallow {turn}"));
    }
    let (context, action) = gateway.post(&long_chat("one more swallow"));
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "busy");
}

pub fn a_refusal_between_slices_lets_go_once(start: Start) {
    let mut gateway = slow(start, SLICES);
    gateway.host.state().refuse_calls = Some(warmpath_filter::host::Status::BAD_ARGUMENT);
    let context = begun(&mut gateway, "the owl");
    for _ in 0..TICKS {
        gateway.filter.on_tick(ROOT);
    }
    gateway.assert_fell_back(context, "indexer_unavailable");
    assert_eq!(gateway.request(context).resumed, 1);
}

pub fn a_prompt_is_hashed_up_to_the_cap(start: Start) {
    let mut gateway = Gateway::ready(start, r#"{"max_prompt_tokens":100}"#);
    let body = long_chat("the wren");
    let (_, call) = gateway.ask_with(&[], &body);
    let asked = route_request(&call);
    assert_eq!((asked.tokens, asked.hashes["4"].len()), (100, 25));
    assert_eq!(asked.hashes["4"][..], whole(start, &body).hashes["4"][..25]);
    assert_eq!(gateway.metric_at_tick("warmpath_cuts_total.reason.token_cap"), 1);
}

pub fn what_earlier_prompts_left_is_counted(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    for _ in 0..3 {
        gateway.ask_with(&[], &long_chat("the lark"));
    }
    let tokens = gateway.metric_at_tick("warmpath_tokens_total");
    let reused = gateway.metric_at_tick("warmpath_reused_tokens_total");
    assert!(reused > tokens / 4, "{reused} of {tokens}");
    let mut gateway = Gateway::ready(start, r#"{"cache_bytes":0}"#);
    for _ in 0..3 {
        gateway.ask_with(&[], &long_chat("the lark"));
    }
    assert_eq!(gateway.metric_at_tick("warmpath_reused_tokens_total"), 0);
    assert!(gateway.metric_at_tick("warmpath_callback_microseconds") >= 0);
}
