//! Models: fetched, replaced, missing.

use warmpath_filter::host::Action;
use warmpath_protocol::ManifestModel;

use crate::host::gateway::{CHAT, Gateway, ROOT, Start, chat, decision, local, route_request};
use crate::host::shelf::Shelf;

fn model(shelf: &Shelf) -> ManifestModel {
    shelf.manifest.models[0].clone()
}

fn assert_falls_back(gateway: &mut Gateway, name: &str, reason: &str) {
    let (context, action) = gateway.post(&chat(name));
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, reason);
}

pub fn without_a_manifest_requests_pass_at_once(start: Start) {
    let mut gateway = Gateway::new(start, "");
    let (context, action) = gateway.begin(&[(":method", "POST"), (":path", CHAT)], false);
    assert_eq!(action, Action::Continue);
    gateway.assert_fell_back(context, "no_manifest");

    // An indexer that is not there is asked again, less and less often.
    let first = gateway.host.state().tick;
    gateway.tick();
    let call = gateway.take_calls().remove(0);
    assert_eq!((call.path(), call.headers.get("if-none-match")), ("/v1/manifest", None));
    gateway.tick();
    assert!(gateway.take_calls().is_empty(), "one at a time");
    gateway.filter.on_call_reply(call.token, &local(503));
    assert!(gateway.host.state().tick > first);
    assert_eq!(gateway.metric("warmpath_fetch_failures_total.reason.manifest"), 1);
    gateway.refresh(&Shelf::tiny());
    assert_eq!(gateway.host.state().tick.as_millis(), 1000);
    gateway.ask("tiny");
}

pub fn a_model_that_is_loading_falls_back(start: Start) {
    let mut gateway = Gateway::new(start, "");
    let shelf = Shelf::tiny();
    gateway.tick();
    let manifest = gateway.take_calls().remove(0);
    gateway.filter.on_call_reply(manifest.token, &shelf.answer(&manifest));
    assert_eq!(gateway.metric("warmpath_models_loading"), 1);
    assert_eq!(gateway.take_calls().len(), 1);
    assert_falls_back(&mut gateway, "tiny", "model_loading");
}

pub fn an_unknown_model_falls_back(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    assert_falls_back(&mut gateway, "unheard-of", "unknown_model");
}

pub fn a_model_without_a_table_falls_back_or_goes_as_text(start: Start) {
    let mut shelf = Shelf::tiny();
    let name = "sentencepiece".to_owned();
    let unavailable = Some("a tokenizer of another kind".to_owned());
    shelf.publish(ManifestModel { name, unavailable, ..ManifestModel::default() });

    let mut gateway = Gateway::new(start, "");
    gateway.refresh(&shelf);
    assert_falls_back(&mut gateway, "sentencepiece", "no_table");
    let logs = gateway.host.state().logs.clone();
    assert!(logs.iter().any(|(_, line)| line.contains("a tokenizer of another kind")), "{logs:?}");

    let mut gateway = Gateway::new(start, r#"{"text_fallback":true,"overrides":true}"#);
    gateway.refresh(&shelf);
    let body = chat("sentencepiece");
    let (context, call) = gateway.ask_with(&[("x-warmpath-policy", "p")], &body);
    assert_eq!(call.path(), "/v1/route/text");
    assert_eq!(call.headers["x-warmpath-path"], CHAT);
    assert_eq!(call.headers["x-warmpath-policy"], "p");
    assert_eq!(call.headers["content-type"], "application/json");
    assert_eq!(call.body, body);
    gateway.decide(&call, &decision());
    assert_eq!(gateway.reason(context), "prefix");
}

pub fn an_unchanged_manifest_fetches_nothing(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let shelf = Shelf::tiny();
    gateway.tick();
    let call = gateway.take_calls().remove(0);
    let tag = format!("\"{}\"", shelf.manifest.revision);
    assert_eq!(call.headers["if-none-match"], tag);
    gateway.filter.on_call_reply(call.token, &shelf.answer(&call));
    assert!(gateway.take_calls().is_empty());

    // A new block size, learned from events, is no reason to fetch either.
    let mut shelf = shelf;
    shelf.publish(ManifestModel { block_sizes: vec![8], ..model(&shelf) });
    gateway.tick();
    let call = gateway.take_calls().remove(0);
    gateway.filter.on_call_reply(call.token, &shelf.answer(&call));
    assert!(gateway.take_calls().is_empty());
    let (_, call) = gateway.ask("tiny");
    assert_eq!(route_request(&call).hashes.keys().collect::<Vec<_>>(), ["8"]);
}

pub fn the_old_tokenizer_serves_until_the_new_one_is_there(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let mut shelf = Shelf::tiny();
    let (_, before) = gateway.ask("tiny");
    // The same specification in other bytes is another file.
    let old = shelf.files[&format!("/v1/tables/{}", model(&shelf).spec.unwrap().sha256)].clone();
    let spec = shelf.put([old.as_slice(), b"\n"].concat(), warmpath_prompt::SPEC_FORMAT);
    shelf.publish(ManifestModel { spec: Some(spec), ..model(&shelf) });

    gateway.tick();
    let manifest = gateway.take_calls().remove(0);
    gateway.filter.on_call_reply(manifest.token, &shelf.answer(&manifest));
    let fetch = gateway.take_calls().remove(0);
    assert_eq!(gateway.metric("warmpath_models_loading"), 1);
    let (_, during) = gateway.ask("tiny");
    assert_eq!(route_request(&during), route_request(&before));

    gateway.filter.on_call_reply(fetch.token, &shelf.answer(&fetch));
    assert!(gateway.take_calls().is_empty(), "the table is there already");
    let (_, during) = gateway.ask("tiny");
    assert_eq!(route_request(&during), route_request(&before), "not made yet");
    assert_eq!(gateway.host.state().tick.as_millis(), 1);
    gateway.filter.on_tick(ROOT);
    assert!(gateway.take_calls().is_empty(), "nothing is fetched anew");
    assert_eq!(gateway.metric("warmpath_models_loading"), 0);
    gateway.ask("tiny");
}

pub fn an_indexer_that_compiles_anew_costs_no_tokenizer(start: Start) {
    let mut compiling = Shelf::tiny();
    let unavailable = Some("still compiling".to_owned());
    let entry = model(&compiling);
    let entry = ManifestModel { spec: None, table: None, unavailable, compiling: true, ..entry };
    compiling.publish(entry);

    let mut gateway = Gateway::new(start, r#"{"text_fallback":true}"#);
    gateway.refresh(&compiling);
    assert_falls_back(&mut gateway, "tiny", "model_loading");

    let mut gateway = Gateway::ready(start, "");
    let (_, before) = gateway.ask("tiny");
    gateway.refresh(&compiling);
    let (_, during) = gateway.ask("tiny");
    assert_eq!(route_request(&during), route_request(&before));

    gateway.tick();
    let manifest = gateway.take_calls().remove(0);
    gateway.filter.on_call_reply(manifest.token, &Shelf::tiny().answer(&manifest));
    assert!(gateway.take_calls().is_empty(), "its files are here already");
    gateway.ask("tiny");
}

pub fn a_model_that_is_gone_is_unknown(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    let mut shelf = Shelf::tiny();
    shelf.manifest.models.clear();
    shelf.manifest.revision = "empty".into();
    gateway.refresh(&shelf);
    assert_eq!(gateway.metric("warmpath_models_ready"), 0);
    assert_falls_back(&mut gateway, "tiny", "unknown_model");
    gateway.refresh(&Shelf::tiny());
    gateway.ask("tiny");
}

pub fn a_file_that_is_not_what_its_name_says_is_refused(start: Start) {
    let mut shelf = Shelf::tiny();
    let table = model(&shelf).table.unwrap();
    let path = format!("/v1/tables/{}", table.sha256);
    *shelf.files.get_mut(&path).unwrap().last_mut().unwrap() ^= 1;
    let mut gateway = Gateway::new(start, "");
    gateway.refresh(&shelf);
    assert_falls_back(&mut gateway, "tiny", "model_failed");
    assert_eq!(gateway.metric("warmpath_model_failures_total"), 1);
    gateway.refresh(&shelf);
    assert_eq!(gateway.metric("warmpath_model_failures_total"), 1, "it is not tried again");

    // Bytes that are what they are called, and no table.
    let table = shelf.put(b"nonsense".to_vec(), warmpath_prompt::TABLE_FORMAT);
    shelf.publish(ManifestModel { table: Some(table), ..model(&shelf) });
    gateway.refresh(&shelf);
    assert_falls_back(&mut gateway, "tiny", "model_failed");
    gateway.refresh(&Shelf::tiny());
    gateway.ask("tiny");
}

pub fn a_file_that_does_not_come_is_asked_for_again(start: Start) {
    let mut gateway = Gateway::new(start, "");
    let shelf = Shelf::tiny();
    gateway.tick();
    let manifest = gateway.take_calls().remove(0);
    gateway.filter.on_call_reply(manifest.token, &shelf.answer(&manifest));
    let fetch = gateway.take_calls().remove(0);
    gateway.filter.on_call_reply(fetch.token, &local(503));
    assert!(gateway.take_calls().is_empty(), "not before the next tick");
    assert_falls_back(&mut gateway, "tiny", "model_loading");
    gateway.refresh(&shelf);
    gateway.ask("tiny");
}

pub fn a_table_of_another_format_is_no_table(start: Start) {
    let mut shelf = Shelf::tiny();
    let mut table = model(&shelf).table.unwrap();
    table.format = "warmpath-table-of-tomorrow".into();
    shelf.publish(ManifestModel { table: Some(table), ..model(&shelf) });
    let mut gateway = Gateway::new(start, "");
    gateway.refresh(&shelf);
    assert_falls_back(&mut gateway, "tiny", "no_table");
}

pub fn models_that_share_a_table_fetch_it_once(start: Start) {
    let mut shelf = Shelf::tiny();
    let mut twin = model(&shelf);
    (twin.name, twin.aliases, twin.adapters) = ("twin".into(), vec![], vec![]);
    shelf.publish(twin);
    let mut gateway = Gateway::new(start, "");
    gateway.tick();
    let mut fetched = Vec::new();
    for _ in 0..100 {
        let Some(call) = gateway.take_calls().pop() else {
            gateway.filter.on_tick(ROOT);
            continue;
        };
        gateway.filter.on_call_reply(call.token, &shelf.answer(&call));
        fetched.push(
            call.headers.get(":path").cloned().unwrap()
                + &call.headers.get("range").cloned().unwrap_or_default(),
        );
    }
    let table = model(&shelf).table.unwrap().sha256;
    let ranges = fetched.iter().filter(|path| path.contains(&table));
    let unique: std::collections::BTreeSet<_> = ranges.clone().collect();
    assert_eq!(ranges.count(), unique.len());
    gateway.ask("tiny");
    gateway.ask("twin");
    assert_eq!(gateway.metric("warmpath_models_ready"), 2);
}

pub fn gauges_go_when_the_vm_does(start: Start) {
    let mut gateway = Gateway::ready(start, "");
    assert_eq!(gateway.metric("warmpath_models_ready"), 1);
    gateway.filter.on_delete(ROOT);
    assert_eq!(gateway.metric("warmpath_models_ready"), 0);
    let (_, action) = gateway.post(&chat("tiny"));
    assert_eq!(action, Action::Continue, "a root that is gone stops nobody");
}
