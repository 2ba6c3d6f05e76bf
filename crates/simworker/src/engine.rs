/*!
One rank of the engine: prefix cache and scheduler, without I/O and without a clock.

A step has two halves, as in vLLM: [`Engine::schedule`] chooses requests, gives
them blocks and says how long the computation takes; [`Engine::complete`] hands
out the tokens and what happened to the cache. Between them the caller waits.
What a request will answer is given with it, so nothing here is random and a
history can be replayed exactly.

The order of every operation on blocks follows vLLM 0.32 (`v1/core`), because it
shows on the wire: blocks are announced when the step that fills them is
scheduled, not when it has been computed; removals come when a block is handed
out again; tails go before heads; a preempted request starts over.
*/

mod chain;
mod pool;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chain::Chain;
use pool::{BlockId, Pool};

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tokens in a block.
    pub block_size: usize,
    /// Blocks in the cache, one of them never used.
    pub num_blocks: usize,
    /// Requests computed at a time.
    pub max_num_seqs: usize,
    /// Tokens computed in one step.
    pub max_num_batched_tokens: usize,
    /// Prefill speed; 0 takes no time.
    pub prefill_tokens_per_second: f64,
    /// Shortest step that decodes.
    pub decode: Duration,
    /// Root of every engine hash.
    pub hash_seed: u64,
    /// Announce the block at the end of a request that is not full, as TensorRT-LLM does.
    pub partial_blocks: bool,
}

/// A LoRA adapter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adapter {
    /// The engine's number for it, from 1.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// What distinguishes the blocks of one request from those of another with the same tokens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    /// Enters the hash of every block.
    pub adapter: Option<Adapter>,
    /// Enters the hash of the first block, and so of all.
    pub cache_salt: Option<String>,
    /// Reported with the blocks that the request stores; in no hash.
    pub session: Option<String>,
}

/// One answer to compute.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caller's name for it; unique while it runs.
    pub id: u64,
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Token ids that will be sampled; not empty.
    pub answer: Vec<u32>,
    /// Its adapter, salt and session.
    pub scope: Arc<Scope>,
    /// Announce the blocks that it finds cached again (vLLM's `kv_cache_report_mode` "full").
    pub report_hits: bool,
}

/// A change of the cache, in the engine's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Blocks were filled, or (`report_hits`) found.
    Stored {
        /// Engine hashes, one per block.
        hashes: Vec<u64>,
        /// Engine hash of the block before the first one.
        parent: Option<u64>,
        /// Their tokens, block size times the number of hashes.
        tokens: Vec<u32>,
        /// Whether the first of them is the first of its prompt.
        first: bool,
        /// Whose blocks they are.
        scope: Arc<Scope>,
    },
    /// The end of a finished request, too short for a block; nobody finds it again.
    Partial {
        /// Its name.
        hash: u64,
        /// Engine hash of the block before it.
        parent: Option<u64>,
        /// Its tokens, fewer than the block size.
        tokens: Vec<u32>,
    },
    /// One physical copy of a block is gone.
    Removed {
        /// Its engine hash.
        hash: u64,
    },
    /// The cache was emptied.
    Cleared,
}

/// A sampled token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sampled {
    /// The request's.
    pub id: u64,
    /// The token.
    pub token: u32,
    /// Prompt tokens found in the cache when the request was first scheduled.
    pub cached_tokens: usize,
    /// Whether it was the last one.
    pub last: bool,
}

/// What a step brought.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// At most one token for each request.
    pub sampled: Vec<Sampled>,
    /// In the order in which they happened.
    pub events: Vec<Event>,
}

/// Load and counters, as the metrics show them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Requests being computed.
    pub running: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Part of the blocks that requests use, 0 to 1.
    pub usage: f64,
    /// Tokens looked up in the cache.
    pub queries: u64,
    /// Tokens found.
    pub hits: u64,
    /// Requests thrown out of the batch for lack of blocks.
    pub preemptions: u64,
}

/// The engine of one rank.
pub struct Engine {
    config: Config,
    pool: Pool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    events: Vec<Event>,
    /// Names of partial blocks, until the next request takes their place.
    partials: Vec<u64>,
    counters: Gauges,
}

struct Sequence {
    request: Request,
    chain: Chain,
    blocks: Vec<BlockId>,
    /// Tokens whose keys and values are in `blocks`.
    computed: usize,
    /// Tokens of the step that runs.
    scheduled: usize,
    /// How many of `blocks` can be found by others.
    cached_blocks: usize,
    sampled: usize,
    cached_tokens: Option<usize>,
}

impl Engine {
    /// An idle engine with an empty cache.
    pub fn new(config: Config) -> Engine {
        Engine {
            pool: Pool::new(config.num_blocks),
            config,
            waiting: VecDeque::new(),
            running: Vec::new(),
            events: Vec::new(),
            partials: Vec::new(),
            counters: Gauges::default(),
        }
    }

    /// Puts a request into the queue.
    pub fn submit(&mut self, request: Request) {
        debug_assert!(!request.prompt.is_empty() && !request.answer.is_empty());
        let mut chain = Chain::new(self.config.block_size, self.config.hash_seed, &request.scope);
        chain.extend(&request.prompt);
        self.waiting.push_back(Sequence {
            request,
            chain,
            blocks: Vec::new(),
            computed: 0,
            scheduled: 0,
            cached_blocks: 0,
            sampled: 0,
            cached_tokens: None,
        });
    }

    /// Drops a request; its blocks stay cached. Unknown ids are ignored.
    pub fn abort(&mut self, id: u64) {
        self.waiting.retain(|sequence| sequence.request.id != id);
        if let Some(at) = self.running.iter().position(|sequence| sequence.request.id == id) {
            let sequence = self.running.remove(at);
            self.pool.release(sequence.blocks.into_iter().rev());
        }
    }

    /// Empties the cache; false where requests hold blocks.
    ///
    /// With `restart_running` they let go and start over. The event comes with
    /// the next step, so an idle engine keeps it to itself.
    pub fn reset(&mut self, restart_running: bool) -> bool {
        while restart_running && !self.running.is_empty() {
            self.preempt_last();
        }
        let cleared = self.pool.clear();
        if cleared {
            self.events.push(Event::Cleared);
        }
        cleared
    }

    /// Starts a step and says how long it takes; None where there is nothing to do.
    ///
    /// A step takes as long as its prefill, and at least the decode time where
    /// it also decodes: both share the hardware, and the slower one decides.
    pub fn schedule(&mut self) -> Option<Duration> {
        let mut budget = self.config.max_num_batched_tokens;
        let preempted = self.schedule_running(&mut budget);
        if !preempted {
            self.schedule_waiting(&mut budget);
        }
        let scheduled = || self.running.iter().filter(|sequence| sequence.scheduled > 0);
        let prefill: usize = scheduled()
            .filter(|sequence| sequence.prefills())
            .map(|sequence| sequence.scheduled)
            .sum();
        let decodes = scheduled().any(|sequence| !sequence.prefills());
        scheduled().next()?;
        let rate = self.config.prefill_tokens_per_second;
        let seconds = if rate > 0.0 { prefill as f64 / rate } else { 0.0 };
        let floor = if decodes { self.config.decode } else { Duration::ZERO };
        Some(Duration::from_secs_f64(seconds).max(floor))
    }

    /// Ends the step that [`Engine::schedule`] started.
    pub fn complete(&mut self) -> Outcome {
        let mut sampled = Vec::new();
        for sequence in &mut self.running {
            let scheduled = std::mem::take(&mut sequence.scheduled);
            sequence.computed += scheduled;
            if scheduled > 0 && sequence.computed == sequence.chain.tokens().len() {
                sampled.push(sequence.sample());
            }
        }
        let announces_partial = self.config.partial_blocks;
        let Engine { pool, partials, events, .. } = self;
        self.running.retain_mut(|sequence| {
            let finished = sequence.sampled == sequence.request.answer.len();
            if finished {
                pool.release(std::mem::take(&mut sequence.blocks).into_iter().rev());
                if let Some((hash, event)) = sequence.partial().filter(|_| announces_partial) {
                    partials.push(hash);
                    events.push(event);
                }
            }
            !finished
        });
        Outcome { sampled, events: std::mem::take(&mut self.events) }
    }

    /// Load and counters now.
    pub fn gauges(&self) -> Gauges {
        let capacity = self.pool.capacity();
        let usage = 1.0 - self.pool.free() as f64 / capacity.max(1) as f64;
        Gauges {
            running: self.running.len(),
            waiting: self.waiting.len(),
            usage: if capacity == 0 { 0.0 } else { usage },
            ..self.counters
        }
    }

    /// Gives every running request its next tokens; true where one had to be preempted.
    fn schedule_running(&mut self, budget: &mut usize) -> bool {
        let mut preempted = false;
        let mut at = 0;
        while at < self.running.len() && *budget > 0 {
            let sequence = &self.running[at];
            let tokens = (sequence.chain.tokens().len() - sequence.computed).min(*budget);
            let needed = sequence.missing_blocks(tokens, self.config.block_size);
            if needed > self.pool.free() {
                preempted = true;
                self.preempt_last();
                continue;
            }
            let sequence = &mut self.running[at];
            sequence.allocate(tokens, &mut self.pool, &mut self.events);
            *budget -= tokens;
            at += 1;
        }
        preempted
    }

    /// Admits requests in order of arrival while there are slots, tokens and blocks.
    fn schedule_waiting(&mut self, budget: &mut usize) {
        while *budget > 0 && self.running.len() < self.config.max_num_seqs {
            let Some(sequence) = self.waiting.front() else { return };
            let hits = sequence.find_hits(&self.pool);
            let hit_tokens = hits.len() * self.config.block_size;
            let total = sequence.chain.tokens().len();
            let revived = hits.iter().filter(|&&block| self.pool.is_free(block)).count();
            let needed = total.div_ceil(self.config.block_size) - hits.len() + revived;
            if needed > self.pool.free() {
                return;
            }
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            self.events.extend(self.partials.drain(..).map(|hash| Event::Removed { hash }));
            self.counters.queries += total as u64;
            self.counters.hits += hit_tokens as u64;
            sequence.cached_tokens.get_or_insert(hit_tokens);
            if sequence.request.report_hits && !hits.is_empty() {
                self.events.push(sequence.chain.stored(0, hits.len(), &sequence.request.scope));
            }
            hits.iter().for_each(|&block| self.pool.share(block));
            sequence.computed = hit_tokens;
            sequence.cached_blocks = hits.len();
            sequence.blocks = hits;
            let tokens = (total - hit_tokens).min(*budget);
            sequence.allocate(tokens, &mut self.pool, &mut self.events);
            *budget -= tokens;
            self.running.push(sequence);
        }
    }

    fn preempt_last(&mut self) {
        if let Some(mut sequence) = self.running.pop() {
            self.pool.release(std::mem::take(&mut sequence.blocks).into_iter().rev());
            sequence.computed = 0;
            sequence.scheduled = 0;
            sequence.cached_blocks = 0;
            self.counters.preemptions += 1;
            self.waiting.push_front(sequence);
        }
    }
}

impl Sequence {
    /// Whether the scheduled tokens are known ones, up to the last.
    fn prefills(&self) -> bool {
        self.scheduled > 1 || self.computed + self.scheduled <= self.request.prompt.len()
    }

    /// Cached blocks of a prefix. The last token is never among them: it must be computed to sample from it.
    fn find_hits(&self, pool: &Pool) -> Vec<BlockId> {
        let limit = (self.chain.tokens().len() - 1) / self.chain.block_size();
        self.chain.hashes()[..limit].iter().map_while(|&hash| pool.lookup(hash)).collect()
    }

    fn missing_blocks(&self, tokens: usize, block_size: usize) -> usize {
        (self.computed + tokens).div_ceil(block_size).saturating_sub(self.blocks.len())
    }

    /// Takes the blocks for the next tokens, of which there must be enough, and announces the full ones.
    fn allocate(&mut self, tokens: usize, pool: &mut Pool, events: &mut Vec<Event>) {
        for _ in 0..self.missing_blocks(tokens, self.chain.block_size()) {
            self.blocks.extend(pool.take(events));
        }
        self.scheduled = tokens;
        let full = (self.computed + tokens) / self.chain.block_size();
        if full > self.cached_blocks {
            for at in self.cached_blocks..full {
                pool.cache(self.blocks[at], self.chain.hashes()[at]);
            }
            events.push(self.chain.stored(self.cached_blocks, full, &self.request.scope));
            self.cached_blocks = full;
        }
    }

    /// What is behind the last full block, if anything is computed there.
    fn partial(&self) -> Option<(u64, Event)> {
        let start = self.cached_blocks * self.chain.block_size();
        let tokens = self.chain.tokens().get(start..self.computed)?.to_vec();
        let parent = self.cached_blocks.checked_sub(1).map(|at| self.chain.hashes()[at]);
        let before = parent.unwrap_or(self.request.id);
        let hash = warmpath_blocks::sequence_hash(before, warmpath_blocks::token_digest(&tokens));
        (!tokens.is_empty()).then_some((hash, Event::Partial { hash, parent, tokens }))
    }

    fn sample(&mut self) -> Sampled {
        let token = self.request.answer[self.sampled];
        self.sampled += 1;
        self.chain.extend(&[token]);
        Sampled {
            id: self.request.id,
            token,
            cached_tokens: self.cached_tokens.unwrap_or_default(),
            last: self.sampled == self.request.answer.len(),
        }
    }
}

#[cfg(test)]
mod tests;
