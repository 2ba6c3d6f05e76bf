//! The requests: from a trace file, or generated with the same shape.
//!
//! A request is its blocks of 16 tokens. Equal local hashes mean equal whole
//! prefixes, as in the Mooncake traces, where an id stands for 512 tokens with
//! everything before them.
//!
//! Blocks are named by Dynamo's sequence hashes on all workers: PositionalIndexer
//! takes the engine's name for that hash and answers wrongly where it is another.

use std::path::Path;

use anyhow::{Context, Result};
use dynamo_kv_router::protocols::{LocalBlockHash, compute_next_seq_hash};
use serde::Deserialize;

/// One block of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Hash of its tokens.
    pub(crate) local: u64,
    /// The engines' name for it.
    pub(crate) engine: u64,
}

/// Adds blocks of these local hashes to a request.
fn extend(request: &mut Vec<Block>, local: impl Iterator<Item = u64>) {
    let mut last = request.last().map(|block| block.engine);
    request.extend(local.map(|local| {
        let engine =
            last.map_or(local, |parent| compute_next_seq_hash(parent, LocalBlockHash(local)));
        last = Some(engine);
        Block { local, engine }
    }));
}

/// Tokens of a block.
const BLOCK: usize = 16;
/// Blocks that one id of a trace stands for.
const PER_ID: u64 = 512 / BLOCK as u64;

#[derive(Deserialize)]
struct Line {
    input_length: usize,
    hash_ids: Vec<u64>,
}

/// A number that looks like a hash; no two numbers have the same.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The requests of a trace file (JSON lines with `input_length` and `hash_ids`).
pub(crate) fn read(path: &Path) -> Result<Vec<Vec<Block>>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can not read the trace {}", path.display()))?;
    text.lines()
        .zip(1..)
        .map(|(line, number)| {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("{}: line {number}", path.display()))?;
            let local = line
                .hash_ids
                .iter()
                .flat_map(|id| (0..PER_ID).map(move |at| mix(id * PER_ID + at + 1)));
            let mut request = Vec::new();
            extend(&mut request, local.take(line.input_length / BLOCK));
            Ok(request)
        })
        .collect()
}

/// Conversations without end, shaped like the Mooncake conversation trace: all begin
/// with one block run, three in five requests open a conversation, the others go on
/// with a recent one; about 750 blocks a request, long ones rare.
pub(crate) struct Generated {
    random: u64,
    next: u64,
    open: Vec<Vec<Block>>,
}

/// Conversations that may go on.
const OPEN: usize = 512;
/// Blocks after which a conversation ends.
const LONGEST: usize = 8_000;

impl Generated {
    pub(crate) fn new() -> Self {
        Self { random: 0x9e37_79b9_7f4a_7c15, next: PER_ID + 1, open: Vec::new() }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random) % below
    }

    /// Lengths of which most are short and some are long: the smaller of draws
    /// whose bound is drawn too.
    fn length(&mut self, longest: u64) -> u64 {
        let bound = self.random(longest) + 1;
        let bound = self.random(bound) + 1;
        self.random(bound) + 1
    }
}

impl Iterator for Generated {
    type Item = Vec<Block>;

    fn next(&mut self) -> Option<Vec<Block>> {
        let goes_on = !self.open.is_empty() && self.random(5) < 2;
        let (at, mut request) = if goes_on {
            let at = self.random(self.open.len() as u64) as usize;
            (at, self.open[at].clone())
        } else {
            let at = match self.open.len() {
                OPEN => self.random(OPEN as u64) as usize,
                free => {
                    self.open.push(Vec::new());
                    free
                }
            };
            let mut request = Vec::new();
            extend(&mut request, (1..=PER_ID).map(mix));
            (at, request)
        };
        let new = if goes_on { self.length(1_500) } else { self.length(4_000) };
        extend(&mut request, (self.next..self.next + new).map(mix));
        self.next += new;
        self.open[at] = if request.len() > LONGEST {
            request[..PER_ID as usize].to_vec()
        } else {
            request.clone()
        };
        Some(request)
    }
}
