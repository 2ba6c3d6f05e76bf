//! What is asked: the recorded trace, and loads that are made.

use std::path::Path;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Seconds from the start.
    pub(crate) at: f64,
    /// Length of the prompt.
    pub(crate) tokens: u64,
    /// Length of the answer.
    pub(crate) output: u64,
    /// Names of the prompt's full blocks; equal names mean equal prefixes.
    pub(crate) blocks: Vec<u64>,
}

/// Requests in the order of their arrival.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Tokens in a block.
    pub(crate) block: u64,
    pub(crate) requests: Vec<Request>,
}

impl Load {
    /// The same requests, `factor` times as fast.
    pub(crate) fn faster(&self, factor: f64) -> Self {
        let mut load = self.clone();
        load.requests.iter_mut().for_each(|request| request.at /= factor);
        load
    }

    /// Seconds from the first to the last arrival.
    pub(crate) fn seconds(&self) -> f64 {
        self.requests.last().map_or(0.0, |last| last.at)
    }
}

#[derive(Deserialize)]
struct Line {
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// The Mooncake trace: ids are chained, each stands for 512 tokens.
pub(crate) fn trace(path: &Path) -> Result<Load> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the trace {} can not be read", path.display()))?;
    let mut requests = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("{}:{}", path.display(), number + 1))?;
        let full = (line.input_length / 512) as usize;
        let blocks = line.hash_ids.into_iter().take(full).map(|id| id + 1).collect();
        requests.push(Request {
            at: line.timestamp / 1000.0,
            tokens: line.input_length.max(1),
            output: line.output_length,
            blocks,
        });
    }
    requests.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(Load { name: "conversation", block: 512, requests })
}

const BLOCK: u64 = 64;

struct Maker {
    dice: SmallRng,
    next: u64,
    requests: Vec<Request>,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self { dice: SmallRng::seed_from_u64(seed), next: 1, requests: Vec::new() }
    }

    /// Names for that many tokens' full blocks.
    fn fresh(&mut self, tokens: u64) -> Vec<u64> {
        let blocks = tokens / BLOCK;
        let names = (self.next..self.next + blocks).collect();
        self.next += blocks;
        names
    }

    /// A length between half and twice of this, evenly in its logarithm.
    fn about(&mut self, tokens: u64) -> u64 {
        (tokens as f64 * 2.0_f64.powf(self.dice.random::<f64>() * 2.0 - 1.0)) as u64
    }

    fn ask(&mut self, at: f64, blocks: Vec<u64>, output: u64) {
        let tokens = blocks.len() as u64 * BLOCK + self.dice.random_range(1..BLOCK);
        let output = self.about(output).max(1);
        self.requests.push(Request { at, tokens, output, blocks });
    }

    fn finish(mut self, name: &'static str) -> Load {
        self.requests.sort_by(|a, b| a.at.total_cmp(&b.at));
        Load { name, block: BLOCK, requests: self.requests }
    }

    /// Arrivals one by one, exponentially spaced.
    fn poisson(&mut self, number: usize) -> Vec<f64> {
        let mut at = 0.0;
        (0..number)
            .map(|_| {
                at -= (1.0 - self.dice.random::<f64>()).ln();
                at
            })
            .collect()
    }
}

/// 64 prompts of 4,000 tokens, asked with 500 tokens of their own each time.
pub(crate) fn shared_prefix(number: usize) -> Load {
    let mut maker = Maker::new(1);
    let prefixes: Vec<Vec<u64>> = (0..64).map(|_| maker.fresh(4000)).collect();
    for at in maker.poisson(number) {
        let mut blocks = prefixes[maker.dice.random_range(0..prefixes.len())].clone();
        let own = maker.about(500);
        blocks.extend(maker.fresh(own));
        maker.ask(at, blocks, 150);
    }
    maker.finish("shared-prefix")
}

/// Nine of ten requests share one prefix of 6,000 tokens, which one worker has: it was
/// asked a hundred arrivals before the others.
pub(crate) fn hot_prefix(number: usize) -> Load {
    let mut maker = Maker::new(2);
    let hot = maker.fresh(6000);
    maker.ask(0.0, hot.clone(), 150);
    for at in maker.poisson(number.saturating_sub(1)) {
        let at = at + 100.0;
        let mut blocks = if maker.dice.random::<f64>() < 0.9 { hot.clone() } else { Vec::new() };
        let own = maker.about(1000);
        blocks.extend(maker.fresh(own));
        maker.ask(at, blocks, 150);
    }
    maker.finish("hot-prefix")
}

/// No two prompts have anything in common.
pub(crate) fn no_sharing(number: usize) -> Load {
    let mut maker = Maker::new(3);
    for at in maker.poisson(number) {
        let own = maker.about(3000);
        let blocks = maker.fresh(own);
        maker.ask(at, blocks, 200);
    }
    maker.finish("no-sharing")
}

/// Agents: one system prompt of 3,000 tokens, and sessions of 15 calls, each
/// with what came before and 800 tokens more.
pub(crate) fn agentic(number: usize) -> Load {
    let mut maker = Maker::new(4);
    let system = maker.fresh(3000);
    let sessions = number / 15;
    // A session begins whenever fifteen arrivals of the others have passed.
    for start in maker.poisson(sessions) {
        let mut at = start * 15.0;
        let mut blocks = system.clone();
        for _ in 0..15 {
            let own = maker.about(800);
            blocks.extend(maker.fresh(own));
            maker.ask(at, blocks.clone(), 120);
            at += 40.0 * -(1.0 - maker.dice.random::<f64>()).ln();
        }
    }
    maker.finish("agentic")
}
