//! Bodies to hashes: in chunks, in slices, through a cache, always the same.
#![cfg(feature = "library")]

use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;
use warmpath_blocks as blocks;
use warmpath_prompt::{
    BodyReader, Cache, ChatTemplate, ContentFormat, Endpoint, Hashed, Model, ModelFolder, Progress,
    Refusal, TableEncoder, Want, parse,
};

const NOW: u64 = 1_795_000_000;

/// The test model with its table, with the library, and with a template that writes the
/// date and the tools.
static MODELS: LazyLock<[Model; 3]> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    let folder = ModelFolder::load(&path).unwrap();
    let table = folder.table().unwrap();
    let mut dated = folder.spec.clone();
    dated.templates.insert(
        "default".to_owned(),
        ChatTemplate::new(DATED.to_owned(), ContentFormat::String).unwrap(),
    );
    let encoder = || Box::new(TableEncoder::from_bytes(table.clone()).unwrap());
    [
        Model::new(folder.spec.clone(), encoder()).unwrap(),
        Model::new(folder.spec.clone(), Box::new(folder.encoder())).unwrap(),
        Model::new(dated, encoder()).unwrap(),
    ]
});

const DATED: &str = "{{ strftime_now('%d %B %Y') }}<|im_start|>{{ tools|tojson }}<|im_end|>\
    {% for message in messages %}<|im_start|>{{ message.role }}: {{ message.content }}<|im_end|>\
    {% endfor %}{{ effort }}";

/// The bodies that the engine's ids were recorded for.
fn bodies() -> Vec<(Endpoint, String)> {
    #[derive(serde::Deserialize)]
    struct Case {
        endpoint: String,
        body: String,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prompts");
    let endpoint = |name: &str| match name {
        "chat" => Endpoint::Chat,
        "completions" => Endpoint::Completions,
        "generate" => Endpoint::Generate,
        name => Endpoint::of_path(&format!("/v1/{name}"))
            .or(Endpoint::of_path(&format!("/{name}")))
            .unwrap(),
    };
    let case = |line: &str| {
        let case: Case = serde_json::from_str(line).unwrap();
        (endpoint(&case.endpoint), case.body)
    };
    let texts = ["expected.jsonl", "endpoints.jsonl"]
        .map(|file| std::fs::read_to_string(folder.join(file)).unwrap());
    texts.iter().flat_map(|text| text.lines()).map(case).collect()
}

fn want(max_tokens: Option<u64>) -> Want<'static> {
    Want { block_sizes: &[1, 4, 16], seed: blocks::SEED, max_tokens, digest: true }
}

/// All of a job, in slices of `budget` bytes.
fn hashed(
    model: &Model,
    cache: &mut Cache,
    (endpoint, body, now): (Endpoint, &str, u64),
    want: Want<'_>,
    budget: usize,
) -> Result<Hashed, Refusal> {
    let mut reader = BodyReader::new(endpoint);
    for chunk in body.as_bytes().chunks(budget.max(1)) {
        reader.feed(chunk, cache)?;
    }
    let mut job = model.begin(reader.finish()?, now, want, cache)?;
    loop {
        if let Progress::Done(hashed) = job.advance(model, cache, budget)? {
            return Ok(hashed);
        }
    }
}

/// The same without any of it, and nothing reused.
fn plain(
    model: &Model,
    (endpoint, body, now): (Endpoint, &str, u64),
    want: Want<'_>,
) -> Result<Hashed, Refusal> {
    let prompts = model.tokenize(&parse(endpoint, body.as_bytes())?, now)?;
    let all = &prompts.ids[0];
    let most = want.max_tokens.map_or(all.len(), |most| all.len().min(most as usize));
    let ids = &all[..most];
    let hashes = |&size: &u32| (size, blocks::local_hashes(ids, size as usize, want.seed));
    Ok(Hashed {
        tokens: ids.len() as u64,
        hashes: want.block_sizes.iter().map(hashes).collect(),
        digest: want.digest.then(|| blocks::token_digest(ids)),
        cut: (most < all.len()).then_some("token_cap"),
        reused_tokens: 0,
    })
}

#[test]
fn a_job_hashes_the_ids_of_the_prompt() {
    let mut cache = Cache::new(1 << 20);
    let mut done = 0;
    for (endpoint, body) in bodies() {
        // Without a digest, what the cache knows of a conversation is not read again.
        for (max_tokens, digest) in
            [(None, true), (None, false), (None, false), (Some(0), true), (Some(7), false)]
        {
            let asked = (endpoint, body.as_str(), NOW);
            let want = Want { digest, ..want(max_tokens) };
            let expected = plain(&MODELS[0], asked, want);
            let found = hashed(&MODELS[0], &mut cache, asked, want, 100);
            let found = found.map(|found| Hashed { reused_tokens: 0, ..found });
            // Several prompts: one of the others may be empty.
            if found != expected {
                let others = ["\"prompt\": [", "\"documents\": ["];
                let others = others.iter().any(|field| body.contains(field));
                assert!(others, "{body}\n{found:?}\n{expected:?}");
            }
            done += usize::from(expected.is_ok());
        }
    }
    assert!(done > 2000, "only {done} were hashed");
}

#[test]
fn a_body_in_chunks_is_the_body() {
    for (endpoint, body) in bodies() {
        let whole = parse(endpoint, body.as_bytes());
        for size in [1, 2, 3, 7, 64] {
            let mut reader = BodyReader::new(endpoint);
            let mut fed = Ok(());
            for chunk in body.as_bytes().chunks(size) {
                fed = fed.and_then(|()| reader.feed(chunk, &mut Cache::new(0)));
            }
            let read = fed.and_then(|()| reader.finish());
            assert_eq!(format!("{read:?}"), format!("{whole:?}"), "{body}");
        }
    }
}

/// A conversation of these messages: `(who, what, how often)`.
fn conversation(messages: &[(usize, usize, usize)], tools: bool, effort: &str) -> String {
    const WORDS: [&str; 8] = [
        "the quick brown fox, ",
        "<|im_end|>\n",
        "x",
        "naïve 漢字 \u{301}",
        "   \n\n",
        "fn main() { }\n",
        "<|im_start|>assistant\n",
        "1234567890",
    ];
    let message = |(who, what, often): &(usize, usize, usize)| {
        let content = WORDS[*what].repeat(*often);
        let role = ["user", "assistant", "system"][*who];
        serde_json::json!({"role": role, "content": content})
    };
    let mut body = serde_json::json!({
        "model": "m",
        "messages": messages.iter().map(message).collect::<Vec<_>>(),
        "chat_template_kwargs": {"effort": effort},
    });
    if tools {
        let function = serde_json::json!({"name": "f", "description": "does f ".repeat(20)});
        body["tools"] = serde_json::json!([{"type": "function", "function": function}]);
    }
    body.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_state_of_the_cache_and_no_slicing_changes_a_result(
        bytes in prop_oneof![Just(0), 0usize..9_000, Just(100_000), Just(1 << 20)],
        steps in prop::collection::vec(
            (
                (0usize..3, 0u64..3, any::<bool>(), "|low|high"),
                prop::collection::vec((0usize..3, 0usize..8, 0usize..40), 1..5),
                (prop::collection::vec(0u32..40, 0..3), 0u64..3, any::<bool>()),
                prop_oneof![Just(None), (0u64..300).prop_map(Some)],
                prop_oneof![Just(usize::MAX), 0usize..600],
                any::<prop::sample::Index>(),
            ),
            1..8,
        ),
    ) {
        let mut cache = Cache::new(bytes);
        let mut messages: Vec<(usize, usize, usize)> = Vec::new();
        for ((model, day, tools, effort), more, want, max_tokens, budget, at) in &steps {
            // Goes on from a prefix of the conversation before.
            messages.truncate(at.index(messages.len() + 1));
            messages.extend(more);
            let body = conversation(&messages, *tools, effort);
            let (block_sizes, seed, digest) = want;
            let want =
                Want { block_sizes, seed: *seed, max_tokens: *max_tokens, digest: *digest };
            let model = &MODELS[*model];
            let asked = (Endpoint::Chat, body.as_str(), NOW + day * 86_400);
            let expected = plain(model, asked, want).unwrap();
            for _ in 0..2 {
                let found = hashed(model, &mut cache, asked, want, *budget).unwrap();
                prop_assert!(found.reused_tokens <= found.tokens);
                prop_assert_eq!(&Hashed { reused_tokens: 0, ..found }, &expected);
                let stats = cache.stats();
                prop_assert!(stats.bytes <= bytes, "{:?}", stats);
            }
        }
    }
}

#[test]
fn a_turn_reuses_the_turns_before_it_and_nothing_of_another_day() {
    let mut cache = Cache::new(1 << 20);
    let want = Want { block_sizes: &[16, 64], seed: 1, max_tokens: None, digest: false };
    let mut messages = vec![(2, 5, 40), (0, 0, 40), (1, 3, 40), (0, 0, 30)];
    let mut run = |model: usize, messages: &[_], now| {
        let body = conversation(messages, true, "");
        hashed(&MODELS[model], &mut cache, (Endpoint::Chat, &body, now), want, usize::MAX).unwrap()
    };
    assert_eq!(run(0, &messages, NOW).reused_tokens, 0);
    let first = run(0, &messages, NOW);
    assert!(first.reused_tokens + 20 > first.tokens, "{first:?}");
    messages.extend([(1, 2, 4), (0, 7, 3)]);
    let second = run(0, &messages, NOW);
    assert!(second.reused_tokens + 20 > first.tokens, "{second:?}");
    assert!(second.tokens > first.tokens);
    // Another model shares nothing; another day shares the text behind the date, from
    // the second time on that it had to be encoded.
    assert_eq!(run(2, &messages, NOW).reused_tokens, 0);
    assert_eq!(run(2, &messages, NOW + 86_400).reused_tokens, 0);
    assert!(run(2, &messages, NOW + 2 * 86_400).reused_tokens > 0);
    let again = run(2, &messages, NOW);
    assert!(again.reused_tokens + 60 > again.tokens, "{again:?}");
}

#[test]
fn slices_are_bounded_by_what_they_encode() {
    let words: String =
        (0..40_000).map(|n: u32| format!("w{} ", n.wrapping_mul(2_654_435_761))).collect();
    let body = serde_json::json!({"model": "m", "prompt": words}).to_string();
    let request = parse(Endpoint::Completions, body.as_bytes()).unwrap();
    let mut cache = Cache::new(1 << 20);
    let mut job = MODELS[0].begin(request, NOW, want(None), &mut cache).unwrap();
    let mut slices = 1;
    while job.advance(&MODELS[0], &mut cache, 10_000).unwrap() == Progress::More {
        slices += 1;
    }
    let expected = words.len() / 10_000;
    assert!((expected / 2..expected * 2).contains(&slices), "{slices} for {expected}");
}

/// The test model's table with the templates of families, by name.
static FAMILIES: LazyLock<Vec<(&str, Model)>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = ModelFolder::load(&root.join("../../tests/models/tiny")).unwrap();
    let table = folder.table().unwrap();
    let names = ["chatml", "qwen2.5", "llama3", "gemma3", "mistral-v3", "mistral-v7", "qwen3"];
    let model = |name| {
        let file = root.join(format!("tests/prompts/templates/families/{name}.jinja"));
        // Ended by a token that the test model has.
        let source = std::fs::read_to_string(file).unwrap();
        let source = source.replace("<|eot_id|>", "<|im_end|>");
        let source = source.replace("<end_of_turn>", "<|im_end|>");
        let template = ChatTemplate::new(source, ContentFormat::String).unwrap();
        let mut spec = folder.spec.clone();
        spec.templates.insert("default".to_owned(), template);
        let encoder = TableEncoder::from_bytes(table.clone()).unwrap();
        (name, Model::new(spec, Box::new(encoder)).unwrap())
    };
    names.into_iter().map(model).collect()
});

/// One message of a chat, as a client may write it.
fn message((who, what, often): (usize, usize, usize), at: usize) -> String {
    const WORDS: [&str; 6] =
        ["Hello, world! ", "<|im_end|>", "  two \n", "naïve 漢字 \u{301}", "<|im_", "x"];
    let content = serde_json::json!(WORDS[what].repeat(often));
    match who {
        0 => format!(r#"{{"role": "user", "content": {content}}}"#),
        1 => format!(r#"{{"content":{content},"role":"assistant"}}"#),
        2 if at == 0 => format!(r#"{{ "role": "system", "content": {content} }}"#),
        2 => format!(r#"{{"role": "user", "content": [{{"type": "text", "text": {content}}}]}}"#),
        3 => r#"{"role": "assistant", "content": null, "tool_calls": [{"id": "123456789",
            "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1.50}"}}]}"#
            .to_owned(),
        4 => format!(r#"{{"role": "tool", "tool_call_id": "123456789", "content": {content}}}"#),
        _ => format!(r#"{{"role": "developer", "content": {content}}}"#),
    }
}

/// A body around `messages`, its fields in one of several orders, some of them twice.
fn around(messages: &[String], form: usize) -> String {
    let messages = messages.join([", ", ",", "\n  ,"][form % 3]);
    let tools = r#""tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]"#;
    match form {
        0..=2 => format!(r#"{{"model": "m", "messages": [{messages}]}}"#),
        3 => format!(r#"{{"messages":[{messages}],"model":"m","stream":true}}"#),
        4 => format!(r#"{{"model": "m", {tools}, "messages": [{messages}]}}"#),
        5 => format!(r#"{{"model": "m", "messages": [{messages}], {tools}}}"#),
        6 => format!(
            r#"{{"messages": [{{"role": "user", "content": "not this"}}], "model": "m",
                "mess\u0061ges": [{messages}]}}"#
        ),
        7 => format!(r#"{{"model": "m", "messages": [{messages}], "messages": [{messages}]}}"#),
        8 => format!(
            r#"{{"model": "m", "messages": [{messages}], "add_generation_prompt": false,
                "continue_final_message": true}}"#
        ),
        9 => format!(r#"{{"model": "m", "messages": [{messages}, "x"]}}"#),
        10 => format!(r#"{{"model": "m", "messages": [{messages}], "messages": []}}"#),
        11 => format!(
            r#"{{"model": "m", "x": {{"messages": [{messages}]}}, "messages": [{messages}]}}"#
        ),
        _ => format!(r#"{{"model": "m", "messages": [{messages}"#),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversations_that_grow_and_branch_are_read_and_rendered_as_if_new(
        bytes in prop_oneof![Just(20_000), Just(100_000), Just(1 << 20)],
        steps in prop::collection::vec(
            (
                (0usize..7, 0usize..26, 0u64..2),
                prop::collection::vec((0usize..12, 0usize..6, 0usize..60), 1..4),
                prop_oneof![Just(usize::MAX), 1usize..300, 300usize..3_000],
                any::<prop::sample::Index>(),
                any::<bool>(),
            ),
            1..10,
        ),
    ) {
        let mut cache = Cache::new(bytes);
        let mut messages: Vec<String> = Vec::new();
        let want = Want { block_sizes: &[4, 16], seed: 7, max_tokens: None, digest: false };
        for ((family, form, day), more, budget, at, back) in steps {
            if back {
                messages.truncate(at.index(messages.len() + 1));
            }
            for (who, what, often) in more {
                // Mostly what people and their assistants say.
                let who = if who < 6 { who } else { (messages.len() + 1) % 2 };
                messages.push(message((who, what, often), messages.len()));
            }
            let (name, model) = &FAMILIES[family];
            let body = around(&messages, if form < 13 { form } else { form % 2 });
            let asked = (Endpoint::Chat, body.as_str(), NOW + day * 86_400);
            let expected = plain(model, asked, want);
            for _ in 0..2 {
                let found = hashed(model, &mut cache, asked, want, budget);
                let found = found.map(|found| Hashed { reused_tokens: 0, ..found });
                prop_assert_eq!(&found, &expected, "{}: {}", name, body);
                let stats = cache.stats();
                prop_assert!(stats.bytes <= bytes, "{:?}", stats);
            }
        }
    }
}

#[test]
fn a_later_turn_is_neither_read_nor_rendered_whole() {
    let want = Want { block_sizes: &[16], seed: 7, max_tokens: None, digest: false };
    for (name, model) in &FAMILIES[..] {
        let mut cache = Cache::new(1 << 20);
        let mut messages = vec![message((2, 0, 90), 0)];
        let mut resumed = Vec::new();
        for turn in 0..4 {
            messages.push(message((0, 0, 30 + turn), 1));
            for budget in [usize::MAX, 100] {
                let body = around(&messages, turn % 4);
                let asked = (Endpoint::Chat, body.as_str(), NOW);
                let before = cache.stats().resumed;
                let found = hashed(model, &mut cache, asked, want, budget).unwrap();
                let found = Hashed { reused_tokens: 0, ..found };
                assert_eq!(found, plain(model, asked, want).unwrap(), "{name}");
                resumed.push(cache.stats().resumed - before);
            }
            messages.push(message((1, 0, 20 + turn), 1));
        }
        let expected: &[u64] = match *name {
            "mistral-v3" | "qwen3" => &[0; 8],
            // Their first messages are part of what begins the second.
            "gemma3" => &[0, 0, 1, 1, 1, 1, 1, 1],
            "mistral-v7" => &[0, 0, 0, 1, 1, 1, 1, 1],
            _ => &[0, 1, 1, 1, 1, 1, 1, 1],
        };
        assert_eq!(resumed, expected, "{name}");
    }
}
