//! Bodies to hashes: in chunks, in slices, through a cache, always the same.
#![cfg(feature = "library")]

use std::path::Path;
use std::sync::LazyLock;
use warmpath_blocks as blocks;
use warmpath_prompt::{
    BodyReader, Cache, Endpoint, Hashed, Model, ModelFolder, Progress, Refusal, Want, parse,
};

const NOW: u64 = 1_795_000_000;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    let folder = ModelFolder::load(&path).unwrap();
    Model::new(folder.spec.clone(), Box::new(folder.encoder())).unwrap()
});

/// The bodies that the engine's ids were recorded for.
fn bodies() -> Vec<(Endpoint, String)> {
    #[derive(serde::Deserialize)]
    struct Case {
        endpoint: String,
        body: String,
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prompts/expected.jsonl");
    let endpoint = |name: &str| if name == "chat" { Endpoint::Chat } else { Endpoint::Completions };
    let case = |line: &str| {
        let case: Case = serde_json::from_str(line).unwrap();
        (endpoint(&case.endpoint), case.body)
    };
    std::fs::read_to_string(path).unwrap().lines().map(case).collect()
}

fn want(max_tokens: Option<u64>) -> Want<'static> {
    Want { block_sizes: &[1, 4, 16], seed: blocks::SEED, max_tokens, digest: true }
}

/// All of a job, in slices of `budget` bytes.
fn hashed(
    cache: &mut Cache,
    endpoint: Endpoint,
    body: &str,
    want: Want<'_>,
    budget: usize,
) -> Result<Hashed, Refusal> {
    let request = parse(endpoint, body.as_bytes())?;
    let mut job = MODEL.begin(request, NOW, want)?;
    loop {
        if let Progress::Done(hashed) = job.advance(&MODEL, cache, budget)? {
            return Ok(hashed);
        }
    }
}

/// The same without any of it.
fn plain(endpoint: Endpoint, body: &str, want: Want<'_>) -> Result<Hashed, Refusal> {
    let prompts = MODEL.tokenize(&parse(endpoint, body.as_bytes())?, NOW)?;
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
            let expected = plain(endpoint, &body, want(max_tokens));
            let found = hashed(&mut cache, endpoint, &body, want(max_tokens), 100);
            let found = found.map(|found| Hashed { reused_tokens: 0, ..found });
            // Several prompts: one of the others may be empty.
            if found != expected {
                assert!(body.contains("\"prompt\": ["), "{body}\n{found:?}\n{expected:?}");
            }
            done += usize::from(expected.is_ok());
        }
    }
    assert!(done > 900, "only {done} were hashed");
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
