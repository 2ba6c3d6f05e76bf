//! Bodies of every endpoint: how they are cut, sliced and cached makes no difference.
//!
//! Input: the endpoint, how the body is cut, how much a slice does; then the body.

use std::path::Path;
use std::sync::LazyLock;

use warmpath_prompt::{
    BodyReader, Cache, Endpoint, Hashed, Model, ModelFolder, Progress, Refusal, Request,
    TableEncoder, Want, parse,
};

use crate::bytes::Bytes;

/// Far more than any body of fuzzable size takes.
const MOST_SLICES: usize = 1 << 16;

/// The tests' model on its table, as the filter has it.
static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    let folder = ModelFolder::load(&path).expect("the tests' model");
    let table = TableEncoder::from_bytes(folder.table().expect("a table")).expect("a sound table");
    Model::new(folder.spec.clone(), Box::new(table)).expect("its template compiles")
});

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let endpoint = Endpoint::ALL[bytes.below(Endpoint::ALL.len())];
    let (cut, slice) = (bytes.byte(), usize::from(bytes.byte()) + 1);
    let body = bytes.0;
    let whole = parse(endpoint, body);
    let chunked = in_chunks(endpoint, body, cut, &mut Cache::new(0));
    // Their text form is all there is to compare by, and says everything.
    assert_eq!(format!("{whole:?}"), format!("{chunked:?}"), "cut by {cut}");
    let (Ok(whole), Ok(chunked)) = (whole, chunked) else { return };
    let mut cache = Cache::new(1 << 16);
    let at_once = hashed(whole.clone(), &mut Cache::new(0), usize::MAX);
    let sliced = hashed(chunked, &mut cache, slice);
    assert_same(&at_once, &sliced, "slices");
    let again = hashed(whole, &mut cache, slice);
    assert_same(&at_once, &again, "the cache");
    // What is left of the first two turns is neither read nor rendered again.
    for _ in 0..2 {
        let known = in_chunks(endpoint, body, cut, &mut cache);
        let known = known.and_then(|known| hashed(known, &mut cache, slice));
        assert_same(&at_once, &known, "known messages");
    }
    let stats = cache.stats();
    assert!(stats.bytes <= stats.budget, "{stats:?}");
}

/// Chunks of lengths that `cut` draws, empty ones too.
fn in_chunks(
    endpoint: Endpoint,
    mut body: &[u8],
    cut: u8,
    cache: &mut Cache,
) -> Result<Request, Refusal> {
    let mut reader = BodyReader::new(endpoint);
    let mut state = u32::from(cut);
    while !body.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 24) as usize % (usize::from(cut) + 2);
        let (chunk, rest) = body.split_at(length.min(body.len()));
        reader.feed(chunk, cache)?;
        body = rest;
    }
    reader.finish()
}

fn hashed(request: Request, cache: &mut Cache, budget: usize) -> Result<Hashed, Refusal> {
    let want = Want { block_sizes: &[16, 3], seed: 7, max_tokens: Some(5_000), digest: false };
    let mut job = MODEL.begin(request, 0, want, cache)?;
    for _ in 0..MOST_SLICES {
        if let Progress::Done(hashed) = job.advance(&MODEL, cache, budget)? {
            return Ok(hashed);
        }
    }
    panic!("a job without end");
}

fn assert_same(one: &Result<Hashed, Refusal>, other: &Result<Hashed, Refusal>, what: &str) {
    let plain = |hashed: &Result<Hashed, Refusal>| {
        hashed.clone().map(|hashed| Hashed { reused_tokens: 0, ..hashed })
    };
    assert_eq!(plain(one), plain(other), "{what} make a difference");
}
