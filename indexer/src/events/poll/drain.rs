//! TensorRT-LLM's own events into those that the index is written by.
//!
//! What differs from the other engines, after its event manager and the publisher
//! that Dynamo puts beside it:
//!
//! - Event ids count from 0 per process and rank. A gap is a loss for good; an id
//!   that was there before is another life of the engine.
//! - The last block of a prompt is announced although it is not full. It is never
//!   hashed; its removal is expected and no news. When it fills, it comes again
//!   under another hash.
//! - A cache for each attention window: only the widest says how much of a prefix
//!   can be used again.
//! - A block moves between device, host and disk under one name (`updated`), and a
//!   removal does not say from where.
//! - The block size is told nowhere. All blocks of a chain but the last are full.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use warmpath_blocks::media_hash;
use warmpath_radix::{EngineHash, Holder, Index, Tier};

use super::PollSource;
use super::json::{self, Block, Data, Event};
use crate::events::applier::tokens;
use crate::events::apply::{Writer, count};
use crate::events::wire::{self, Reject, Scope, Stored};
use crate::events::{RankSnapshot, RankStatus};

/// The engine's default block size: a lone block of it is taken for full.
const DEFAULT_BLOCK_SIZE: u32 = 32;
/// Names of partial blocks remembered for a rank; an engine has one for each prompt.
const PARTIALS: usize = 1 << 16;

/// The path of one worker's events from an answer's bytes to the index.
pub struct Drain {
    worker_name: String,
    writer: Writer,
    declared: Option<u32>,
    size: Option<u32>,
    /// The widest attention seen.
    window: Option<i64>,
    ranks: Vec<Rank>,
    /// The engine could not be asked since its last event: it may be another.
    doubtful: bool,
}

struct Rank {
    holder: Holder,
    status: Arc<RankStatus>,
    last: Option<u64>,
    partials: HashSet<EngineHash>,
    counts: RankSnapshot,
}

impl Rank {
    /// What was counted of an answer, into the status.
    fn flush(&mut self, worker: &str, size: Option<u32>) {
        let counts = std::mem::take(&mut self.counts);
        let (events, tokens) = (counts.events, tokens(&counts));
        self.status.update(|status| {
            status.absorb(counts);
            status.block_size = size;
            if events > 0 {
                status.batches += 1;
                status.last_seq = self.last;
                status.last_event = Some(Instant::now());
            }
        });
        if let Some(tokens) = tokens {
            self.status.usable(worker, self.holder.rank, tokens.err());
        }
    }
}

impl Drain {
    /// The path of one worker; of `source` its ranks and its block size matter.
    pub fn new(source: &PollSource, index: Arc<Index>) -> Self {
        let rank = |(holder, status): &(Holder, Arc<RankStatus>)| {
            status.update(|status| status.block_size = source.block_size);
            Rank {
                holder: *holder,
                status: status.clone(),
                last: None,
                partials: HashSet::new(),
                counts: RankSnapshot::default(),
            }
        };
        Self {
            worker_name: source.worker_name.clone(),
            writer: Writer::new(index, source.block_size),
            declared: source.block_size,
            size: source.block_size,
            window: None,
            ranks: source.ranks.iter().map(rank).collect(),
            doubtful: false,
        }
    }

    /// Takes an answer; the error is the reason why it is none.
    pub fn offer(&mut self, body: &[u8]) -> Result<(), &'static str> {
        for element in json::elements(body)? {
            match Event::read(element) {
                Some(event) => self.event(event),
                None => self.reject(0, Reject::Malformed),
            }
        }
        for rank in &mut self.ranks {
            rank.flush(&self.worker_name, self.size);
        }
        Ok(())
    }

    /// The engine answered.
    pub(super) fn works(&self) {
        self.ranks.iter().for_each(|rank| {
            rank.status.failing(&self.worker_name, rank.holder.rank, None);
        });
    }

    /// The engine did not answer; `lasting` if that is no longer by chance.
    pub(super) fn failed(&mut self, reason: &'static str, lasting: bool) {
        self.doubtful = true;
        for rank in &self.ranks {
            rank.status.reject(reason);
            if lasting {
                rank.status.update(|status| (status.connected, status.synced) = (false, true));
                rank.status.failing(&self.worker_name, rank.holder.rank, Some(reason));
            }
        }
    }

    /// Forgets what the engine holds.
    pub(super) fn forget(&mut self) {
        for rank in &mut self.ranks {
            self.writer.clear(rank.holder);
            rank.partials.clear();
        }
    }

    /// The engine has begun anew, perhaps with other settings.
    fn restart(&mut self) {
        self.forget();
        self.writer.restart();
        (self.size, self.window) = (self.declared, None);
        for rank in &mut self.ranks {
            rank.last = None;
            rank.counts.restarts += 1;
        }
    }

    fn reject(&mut self, rank: usize, reject: Reject) {
        let counts = &mut self.ranks[rank].counts;
        counts.events += 1;
        count(&mut counts.rejected, reject.name());
    }

    fn event(&mut self, event: Event) {
        let number = event.attention_dp_rank.unwrap_or(0) as usize;
        if number >= self.ranks.len() {
            return self.reject(0, Reject::RankOutOfRange);
        }
        self.identify(number, &event);
        let counts = &mut self.ranks[number].counts;
        counts.events += 1;
        if let Some(window) = event.window_size {
            match self.window {
                Some(widest) if window < widest => {
                    count(&mut counts.ignored, "narrow_window");
                    return;
                }
                Some(widest) if window > widest => self.forget(),
                _ => {}
            }
            self.window = Some(window);
        }
        let done = match event.data.kind.as_str() {
            "created" => Ok(()),
            "stored" => self.stored(number, event.data),
            "removed" => self.removed(number, event.data),
            "updated" => self.updated(number, &event.data),
            _ => Err(Reject::UnknownEvent),
        };
        if let Err(reject) = done {
            count(&mut self.ranks[number].counts.rejected, reject.name());
        }
    }

    /// What the event's id says: losses, and lives.
    fn identify(&mut self, number: usize, event: &Event) {
        let id = event.event_id;
        let begins = id == 0 || event.data.kind == "created" || self.doubtful;
        let repeated = self.ranks[number].last.is_some_and(|last| id <= last);
        if repeated && begins {
            self.restart();
        }
        self.doubtful = false;
        let Rank { last, counts, .. } = &mut self.ranks[number];
        let next = last.map_or(0, |last| last.saturating_add(1));
        if id > next {
            counts.gaps += 1;
            counts.lost_batches = counts.lost_batches.saturating_add(id - next);
        }
        *last = Some(id);
    }

    fn stored(&mut self, number: usize, data: Data) -> Result<(), Reject> {
        let blocks = data.blocks.ok_or(Reject::Malformed)?;
        let told = blocks.iter().all(|block| block.tokens.as_ref().is_some_and(|t| !t.is_empty()));
        if !told {
            return Err(Reject::NoTokens);
        }
        self.learn(&blocks)?;
        let mut parent = data.parent_hash.map(|hash| hash.0);
        let adapter = data.lora_name.as_deref();
        let mut full = Vec::new();
        for block in &blocks {
            let length = block.tokens.as_ref().map_or(0, Vec::len);
            match self.size {
                Some(size) if length == size as usize => full.push(block),
                Some(size) if length > size as usize => return Err(Reject::BlockSize),
                known => {
                    // Partial, and so the last of its chain; or perhaps so.
                    let Rank { partials, counts, .. } = &mut self.ranks[number];
                    if partials.len() >= PARTIALS {
                        partials.clear();
                    }
                    partials.insert(block.block_hash.0);
                    let reason = if known.is_some() { "partial_block" } else { "unknown_size" };
                    count(&mut counts.ignored, reason);
                    break;
                }
            }
        }
        let Rank { holder, counts, .. } = &mut self.ranks[number];
        for chain in full.chunk_by(|one, next| one.cache_level == next.cache_level) {
            let event = wire::Event::Stored(chained(chain, parent, adapter, self.size));
            self.writer.apply(*holder, event, counts);
            parent = chain.last().map(|block| block.block_hash.0);
        }
        Ok(())
    }

    /// Learns the block size where it was not declared.
    fn learn(&mut self, blocks: &[Block]) -> Result<(), Reject> {
        if self.declared.is_some() {
            return Ok(());
        }
        let length = |block: &Block| block.tokens.as_ref().map_or(0, Vec::len);
        let longest = blocks.iter().map(length).max().unwrap_or(0);
        let longest = u32::try_from(longest).map_err(|_| Reject::BlockSize)?;
        let full = blocks.len() > 1 || longest == DEFAULT_BLOCK_SIZE;
        match self.size {
            // What was learned came of a block that was not full.
            Some(size) if longest > size => {
                self.forget();
                self.writer.restart();
                self.size = Some(longest);
            }
            None if full => self.size = Some(longest),
            _ => {}
        }
        Ok(())
    }

    fn removed(&mut self, number: usize, data: Data) -> Result<(), Reject> {
        let hashes = data.block_hashes.ok_or(Reject::Malformed)?;
        let Rank { holder, partials, counts, .. } = &mut self.ranks[number];
        let hashes: Vec<EngineHash> =
            hashes.iter().map(|hash| hash.0).filter(|hash| !partials.remove(hash)).collect();
        self.writer.remove_anywhere(*holder, &hashes, counts);
        Ok(())
    }

    fn updated(&mut self, number: usize, data: &Data) -> Result<(), Reject> {
        let hash = data.block_hash.ok_or(Reject::Malformed)?.0;
        // Else it is about the priority alone.
        let Some(change) = &data.cache_level else { return Ok(()) };
        let Rank { holder, partials, counts, .. } = &mut self.ranks[number];
        if !partials.contains(&hash) {
            let (from, to) = (level(change.old_value), level(change.new_value));
            self.writer.move_block(*holder, hash, from, to, counts);
        }
        Ok(())
    }
}

/// Cache levels as the engine numbers them.
fn level(number: u32) -> Tier {
    match number {
        0 => Tier::Device,
        1 => Tier::Host,
        _ => Tier::Disk,
    }
}

/// A chain of full blocks as one event.
fn chained<'a>(
    blocks: &[&Block],
    parent: Option<EngineHash>,
    adapter: Option<&'a str>,
    size: Option<u32>,
) -> Stored<'a> {
    let tokens = |block: &&Block| block.tokens.as_deref().unwrap_or_default().to_vec();
    let medium =
        match blocks.first().and_then(|block| block.cache_level).map_or(Tier::Device, level) {
            Tier::Device => "GPU",
            Tier::Host => "CPU",
            Tier::Disk => "DISK",
        };
    Stored {
        scope: Scope { medium: Some(medium), ..Scope::default() },
        hashes: blocks.iter().map(|block| block.block_hash.0).collect(),
        parent,
        tokens: blocks.iter().flat_map(tokens).map(|token| token.id).collect(),
        block_size: size.unwrap_or(0),
        has_adapter_id: blocks.iter().any(|block| block.lora_id.is_some()),
        adapter: adapter.filter(|name| !name.is_empty()),
        media: blocks.iter().map(|block| media(block)).collect(),
        ..Stored::default()
    }
}

/// What else than token ids is in a block: media by their hashes, and the extra ids
/// of its tokens, which stand for prompt embeddings.
fn media(block: &Block) -> Vec<u64> {
    let keys = block.mm_keys.iter().flatten();
    let mut media: Vec<u64> =
        keys.filter_map(|key| media_hash(key.hash.as_deref().unwrap_or(""))).collect();
    let extra: Vec<u32> = block
        .tokens
        .iter()
        .flatten()
        .flat_map(|token| [token.extra as u32, (token.extra >> 32) as u32])
        .collect();
    if extra.iter().any(|&part| part != 0) {
        media.push(warmpath_blocks::token_digest(&extra));
    }
    media
}
