//! One simulated engine: continuous batching, chunked prefill, a block cache.
//!
//! It works in steps as vLLM does. A step decodes one token for each running
//! request and spends the rest of its token budget on prompts, first come first
//! served; its length follows from what it holds. Blocks are cached when they are
//! computed and evicted least recently used, tails first.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use crate::load::Request;

/// What an engine costs; about an 8B model on one H100.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Prompt tokens a second, attention aside.
    pub(crate) prefill_rate: f64,
    /// Seconds of attention for each pair of a new token and one before it.
    pub(crate) attention: f64,
    /// Seconds of every step.
    pub(crate) step: f64,
    /// Seconds of a step for each request that decodes.
    pub(crate) decode: f64,
    /// Seconds of a step for each token of context that decoding reads.
    pub(crate) context: f64,
    /// Token budget of a step.
    pub(crate) budget: u64,
    /// Most requests in work.
    pub(crate) sequences: usize,
    /// Tokens that the KV cache holds.
    pub(crate) cache_tokens: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            prefill_rate: 20_000.0,
            attention: 0.5e-9,
            step: 0.006,
            decode: 3e-5,
            context: 4e-8,
            budget: 8192,
            sequences: 256,
            cache_tokens: 3_200_000,
        }
    }
}

impl Costs {
    /// Seconds to prefill `new` tokens behind `before` others.
    pub(crate) fn prefill(&self, before: u64, new: u64) -> f64 {
        let (before, new) = (before as f64, new as f64);
        new / self.prefill_rate + self.attention * new * (before + new / 2.0)
    }

    /// Seconds of a fully used engine that a request takes.
    pub(crate) fn work(&self, request: &Request, cached: u64) -> f64 {
        let new = request.tokens - cached;
        let steps = new as f64 / self.budget as f64;
        let context = request.tokens as f64 + request.output as f64 / 2.0;
        self.prefill(cached, new)
            + steps * self.step
            + request.output as f64 * (self.decode + context * self.context)
    }
}

/// What the cache gained and lost in a step, for the index.
#[derive(Debug)]
pub(crate) enum Change {
    /// Blocks behind another, in order.
    Stored(Option<u64>, Vec<u64>),
    /// A block that is gone.
    Removed(u64),
}

/// What happened to a request at the end of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Progress {
    /// Its first token came.
    First { request: usize, cached: u64 },
    /// It is done.
    Done { request: usize },
}

#[derive(Clone, Copy, Debug, Default)]
struct Cached {
    users: u32,
    /// Key in the order of eviction, while nobody uses it.
    freed: u64,
}

struct Sequence {
    request: usize,
    tokens: u64,
    output: u64,
    blocks: Vec<u64>,
    /// Leading blocks that are cached and that it uses.
    held: usize,
    /// Tokens of anonymous blocks: not yet cached, partial, output.
    reserved: u64,
    cached: u64,
    computed: u64,
    generated: u64,
}

/// A simulated engine.
pub(crate) struct Engine {
    costs: Costs,
    block: u64,
    cache: HashMap<u64, Cached>,
    order: BTreeMap<u64, u64>,
    clock: u64,
    reserved: u64,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    /// Prompt tokens of the step in progress, by position in `running`.
    chunks: Vec<(usize, u64)>,
    pub(crate) stepping: bool,
    /// Seconds of work done, as [`Costs::work`] counts it.
    pub(crate) worked: f64,
    pub(crate) changes: Vec<Change>,
}

impl Engine {
    /// An idle engine with that many tokens a block.
    pub(crate) fn new(costs: Costs, block: u64) -> Self {
        Self {
            costs,
            block,
            cache: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
            reserved: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            chunks: Vec::new(),
            stepping: false,
            worked: 0.0,
            changes: Vec::new(),
        }
    }

    /// Requests that wait, and that are in work.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// Share of the cache that requests in work use.
    pub(crate) fn usage(&self) -> f64 {
        let idle = self.order.len() as u64 * self.block;
        let used = self.cache.len() as u64 * self.block - idle + self.reserved;
        used as f64 / self.costs.cache_tokens as f64
    }

    /// Takes a request.
    pub(crate) fn push(&mut self, number: usize, request: &Request) {
        self.waiting.push_back(Sequence {
            request: number,
            tokens: request.tokens,
            output: request.output.max(1),
            blocks: request.blocks.clone(),
            held: 0,
            reserved: 0,
            cached: 0,
            computed: 0,
            generated: 0,
        });
    }

    /// Plans a step; its length in seconds, or none where there is nothing to do.
    pub(crate) fn begin(&mut self) -> Option<f64> {
        let mut budget = self.costs.budget;
        let mut seconds = self.costs.step;
        self.chunks.clear();
        for one in self.running.iter().filter(|one| one.computed == one.tokens) {
            budget = budget.saturating_sub(1);
            let context = (one.tokens + one.generated) as f64;
            seconds += self.costs.decode + context * self.costs.context;
        }
        for at in 0..self.running.len() {
            seconds += self.chunk(at, &mut budget);
        }
        while budget > 0 && self.running.len() < self.costs.sequences {
            let Some(mut next) = self.waiting.pop_front() else { break };
            if !self.admit(&mut next) {
                self.waiting.push_front(next);
                break;
            }
            self.running.push(next);
            seconds += self.chunk(self.running.len() - 1, &mut budget);
        }
        self.stepping = !self.running.is_empty();
        self.stepping.then_some(seconds)
    }

    fn chunk(&mut self, at: usize, budget: &mut u64) -> f64 {
        let one = &self.running[at];
        let new = (one.tokens - one.computed).min(*budget);
        if new == 0 {
            return 0.0;
        }
        *budget -= new;
        self.chunks.push((at, new));
        self.costs.prefill(one.computed, new)
    }

    /// Gives a request its cached prefix and room for the rest; not if there is none.
    fn admit(&mut self, one: &mut Sequence) -> bool {
        let known = |block: &&u64| self.cache.contains_key(*block);
        let mut held = one.blocks.iter().take_while(known).count();
        // The last token is always computed: its logits are wanted.
        if held as u64 * self.block >= one.tokens {
            held -= 1;
        }
        let need = one.tokens + one.output - held as u64 * self.block;
        let idle_held = one.blocks[..held].iter().filter(|block| self.cache[*block].users == 0);
        let idle = (self.order.len() - idle_held.count()) as u64 * self.block;
        let stored = self.cache.len() as u64 * self.block;
        let room = self.costs.cache_tokens.saturating_sub(stored + self.reserved) + idle;
        if need > room && !self.running.is_empty() {
            return false;
        }
        for block in &one.blocks[..held] {
            let cached = self.cache.entry(*block).or_default();
            if cached.users == 0 {
                self.order.remove(&cached.freed);
            }
            cached.users += 1;
        }
        self.reserved += need;
        while self.cache.len() as u64 * self.block + self.reserved > self.costs.cache_tokens {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.cache.remove(&oldest);
            self.changes.push(Change::Removed(oldest));
        }
        one.held = held;
        one.reserved = need;
        one.cached = held as u64 * self.block;
        one.computed = one.cached;
        true
    }

    /// Ends the step that was begun.
    pub(crate) fn end(&mut self) -> Vec<Progress> {
        let mut progress = Vec::new();
        let mut decoding: Vec<bool> =
            self.running.iter().map(|one| one.computed == one.tokens).collect();
        for (at, new) in std::mem::take(&mut self.chunks) {
            let before = self.running[at].computed;
            self.worked += self.costs.prefill(before, new);
            self.running[at].computed += new;
            self.store(at);
            let one = &mut self.running[at];
            if one.computed == one.tokens {
                one.generated = 1;
                progress.push(Progress::First { request: one.request, cached: one.cached });
            }
        }
        for (one, decoding) in self.running.iter_mut().zip(&mut decoding) {
            if *decoding {
                let context = (one.tokens + one.generated) as f64;
                self.worked += self.costs.decode + context * self.costs.context;
                one.generated += 1;
            }
        }
        let (done, rest) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|one: &Sequence| one.generated >= one.output);
        self.running = rest;
        for one in done {
            progress.push(Progress::Done { request: one.request });
            self.release(one);
        }
        progress
    }

    /// Caches the blocks that are computed.
    fn store(&mut self, at: usize) {
        let one = &mut self.running[at];
        let full = ((one.computed / self.block) as usize).min(one.blocks.len());
        let parent = one.held.checked_sub(1).map(|last| one.blocks[last]);
        let mut new = Vec::new();
        let mut runs: Vec<(Option<u64>, Vec<u64>)> = Vec::new();
        let mut before = parent;
        for &block in &one.blocks[one.held..full] {
            let cached = self.cache.entry(block).or_insert_with(|| {
                new.push(block);
                Cached::default()
            });
            // Somebody else computed it as well; one copy is kept.
            if cached.users == 0 && new.last() != Some(&block) {
                self.order.remove(&cached.freed);
            }
            cached.users += 1;
            if new.last() == Some(&block) {
                match runs.last_mut() {
                    Some((_, run)) if run.last() == before.as_ref() => run.push(block),
                    _ => runs.push((before, vec![block])),
                }
            }
            before = Some(block);
        }
        let moved = (full - one.held) as u64 * self.block;
        one.held = full;
        one.reserved -= moved.min(one.reserved);
        self.reserved -= moved.min(self.reserved);
        self.changes.extend(runs.into_iter().map(|(parent, run)| Change::Stored(parent, run)));
    }

    fn release(&mut self, one: Sequence) {
        self.reserved -= one.reserved.min(self.reserved);
        for block in one.blocks[..one.held].iter().rev() {
            let Some(cached) = self.cache.get_mut(block) else { continue };
            cached.users -= 1;
            if cached.users == 0 {
                self.clock += 1;
                cached.freed = self.clock;
                self.order.insert(self.clock, *block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(blocks: &[u64], output: u64) -> Request {
        Request { at: 0.0, tokens: blocks.len() as u64 * 16 + 5, output, blocks: blocks.to_vec() }
    }

    /// Runs until everything is done; seconds, and the first tokens' cached ones.
    fn drain(engine: &mut Engine) -> (f64, Vec<u64>) {
        let (mut seconds, mut cached) = (0.0, Vec::new());
        while let Some(step) = engine.begin() {
            seconds += step;
            for progress in engine.end() {
                if let Progress::First { cached: one, .. } = progress {
                    cached.push(one);
                }
            }
        }
        (seconds, cached)
    }

    #[test]
    fn a_prefix_is_computed_once_and_shortens_the_next() {
        let mut engine = Engine::new(Costs::default(), 16);
        engine.push(0, &request(&(0..1000).collect::<Vec<_>>(), 2));
        let (cold, cached) = drain(&mut engine);
        assert_eq!(cached, [0]);
        engine.push(1, &request(&(0..1000).collect::<Vec<_>>(), 2));
        let (warm, cached) = drain(&mut engine);
        assert_eq!(cached, [16_000]);
        assert!(warm < cold / 10.0, "{warm} {cold}");
        assert_eq!(engine.counts(), (0, 0));
        assert_eq!(engine.usage(), 0.0);
    }

    #[test]
    fn a_full_cache_evicts_the_longest_unused_tail_first() {
        let costs = Costs { cache_tokens: 16 * 12, ..Costs::default() };
        let mut engine = Engine::new(costs, 16);
        engine.push(0, &request(&[1, 2, 3, 4], 1));
        drain(&mut engine);
        engine.push(1, &request(&[11, 12, 13, 14, 15, 16, 17, 18], 1));
        drain(&mut engine);
        let removed: Vec<u64> = engine
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Removed(block) => Some(*block),
                Change::Stored(..) => None,
            })
            .collect();
        assert_eq!(removed, [4]);
        assert!(engine.cache.contains_key(&3));
    }

    #[test]
    fn a_request_that_does_not_fit_waits() {
        let costs = Costs { cache_tokens: 16 * 12, ..Costs::default() };
        let mut engine = Engine::new(costs, 16);
        engine.push(0, &request(&[1, 2, 3, 4, 5, 6, 7, 8], 3));
        engine.push(1, &request(&[11, 12, 13, 14, 15, 16], 1));
        engine.begin();
        assert_eq!(engine.counts(), (1, 1));
        engine.end();
        let (_, cached) = drain(&mut engine);
        assert_eq!((cached.len(), engine.counts()), (1, (0, 0)));
    }
}
