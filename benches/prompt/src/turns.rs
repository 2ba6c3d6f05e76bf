//! Bodies from their bytes to block hashes, as the filter does it.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use warmpath_prompt::{
    BodyReader, Cache, Encode, Endpoint, Model, ModelSpec, Progress, Refusal, TableEncoder, Want,
};

use crate::engines::Engine;
use crate::measure::Clock;

/// The filter's own cache budget.
const CACHE: usize = 8 << 20;
/// Bytes of text a slice tokenizes.
const SLICE: usize = 64 << 10;
/// Bytes of body that arrive at once.
const CHUNK: usize = 16 << 10;

/// Processor times of bodies, each in a new cache but for second turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Turns {
    pub(crate) bodies: Vec<Body>,
    /// The second turn by its first.
    pub(crate) second_to_first: f64,
}

/// One body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) name: String,
    pub(crate) bytes: usize,
    pub(crate) tokens: u64,
    pub(crate) reused_tokens: u64,
    pub(crate) parse_us: f64,
    /// Rendering, tokenizing and hashing.
    pub(crate) hash_us: f64,
    pub(crate) slices: usize,
    pub(crate) longest_slice_us: f64,
}

/// Hugging Face's library in the pipeline's place of the table.
struct Library(tokenizers::Tokenizer);

impl Encode for Library {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal> {
        let encoding = self.0.encode_fast(text, false).map_err(|_| Refusal::Encoding)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// Measures the bodies with the engines that the pipeline can use.
pub(crate) fn measure(engine: Engine, folder: &Path) -> Result<Option<Turns>> {
    let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| name.to_owned());
    let encoder: Box<dyn Encode> = match engine {
        Engine::Warmpath => Box::new(TableEncoder::from_bytes(read("table")?)?),
        Engine::HuggingFace => {
            let json = read("tokenizer.json")?;
            Box::new(Library(tokenizers::Tokenizer::from_bytes(json).map_err(|e| anyhow!("{e}"))?))
        }
        #[cfg(not(target_family = "wasm"))]
        _ => return Ok(None),
    };
    let spec: ModelSpec = serde_json::from_slice(&read("spec.json")?)?;
    let model = Model::new(spec, encoder)?;
    let mut bodies = Vec::new();
    for kind in [" warm-up", "", " short", " tools"] {
        let mut cache = Cache::new(CACHE);
        for turn in ["first", "second"] {
            let body = read(&format!("bodies/{turn}{kind}.json"))?;
            bodies.push(one(&model, &mut cache, &format!("{turn} turn{kind}"), &body)?);
        }
    }
    // What runs for the first time is slow for reasons of its own.
    bodies.drain(..2);
    let whole = |body: &Body| body.parse_us + body.hash_us;
    let second_to_first = match &*bodies {
        [first, second, ..] => whole(second) / whole(first),
        _ => 0.0,
    };
    bodies.push(one(&model, &mut Cache::new(CACHE), "long", &read("bodies/long.json")?)?);
    Ok(Some(Turns { bodies, second_to_first }))
}

fn one(model: &Model, cache: &mut Cache, name: &str, body: &[u8]) -> Result<Body> {
    let start = Clock::now();
    let mut reader = BodyReader::new(Endpoint::Chat);
    for chunk in body.chunks(CHUNK) {
        reader.feed(chunk, cache)?;
    }
    let request = reader.finish()?;
    let parse_us = start.elapsed().as_secs_f64() * 1e6;
    let start = Clock::now();
    let want = Want { block_sizes: &[16], seed: 0, max_tokens: None, digest: false };
    let mut job = model.begin(request, 0, want, cache)?;
    let (mut slices, mut longest_slice_us) = (0, 0.0_f64);
    let hashed = loop {
        let slice = Clock::now();
        let progress = job.advance(model, cache, SLICE)?;
        slices += 1;
        longest_slice_us = longest_slice_us.max(slice.elapsed().as_secs_f64() * 1e6);
        if let Progress::Done(hashed) = progress {
            break hashed;
        }
    };
    Ok(Body {
        name: name.to_owned(),
        bytes: body.len(),
        tokens: hashed.tokens,
        reused_tokens: hashed.reused_tokens,
        parse_us,
        hash_us: start.elapsed().as_secs_f64() * 1e6,
        slices,
        longest_slice_us,
    })
}
