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
        ChatTemplate { source: DATED.to_owned(), content: ContentFormat::String },
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
    let request = parse(endpoint, body.as_bytes())?;
    let mut job = model.begin(request, now, want)?;
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
        for max_tokens in [None, Some(0), Some(7)] {
            let asked = (endpoint, body.as_str(), NOW);
            let expected = plain(&MODELS[0], asked, want(max_tokens));
            let found = hashed(&MODELS[0], &mut cache, asked, want(max_tokens), 100);
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
                fed = fed.and_then(|()| reader.feed(chunk));
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
    let mut job = MODELS[0].begin(request, NOW, want(None)).unwrap();
    let mut cache = Cache::new(1 << 20);
    let mut slices = 1;
    while job.advance(&MODELS[0], &mut cache, 10_000).unwrap() == Progress::More {
        slices += 1;
    }
    let expected = words.len() / 10_000;
    assert!((expected / 2..expected * 2).contains(&slices), "{slices} for {expected}");
}
