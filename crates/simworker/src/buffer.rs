//! TensorRT-LLM's events as `trtllm-serve` hands them out: one JSON list, emptied by
//! reading.
//!
//! What its event manager does and the other engines do not: a `created` event for
//! each attention window first, ids from 0 in each rank, a block that is not full
//! announced at the end of a prompt, blocks that move to the host under their name
//! before they are gone, and no event for an emptied cache but removals.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::Options;
use crate::engine::Event;

/// Events that wait to be asked for; the oldest go first where there are more.
const BUFFERED: usize = 16_384;

/// The events of all ranks of a worker that nobody has asked for.
pub(crate) type Drained = Arc<Mutex<VecDeque<Value>>>;

/// Writes the events of one rank.
pub(crate) struct Buffer {
    out: Drained,
    options: Arc<Options>,
    rank: u32,
    next_id: u64,
    /// Copies on the device.
    device: HashMap<u64, usize>,
    /// Blocks on the host, the oldest first.
    host: VecDeque<u64>,
}

impl Buffer {
    pub(crate) fn new(out: Drained, options: Arc<Options>, rank: u32) -> Buffer {
        let (device, host) = (HashMap::new(), VecDeque::new());
        let mut buffer = Buffer { out, options, rank, next_id: 0, device, host };
        for window in buffer.windows() {
            let levels = [buffer.options.num_blocks, buffer.options.host_blocks];
            let data = json!({ "type": "created", "num_blocks_per_cache_level": levels });
            buffer.push(window, data);
        }
        buffer
    }

    /// The attention windows: a narrow one where there is one, and that of the whole context.
    fn windows(&self) -> Vec<usize> {
        let narrow = Some(self.options.sliding_window).filter(|&window| window > 0);
        narrow.into_iter().chain([self.options.max_model_len]).collect()
    }

    fn push(&mut self, window: usize, data: Value) {
        let mut event = json!({ "event_id": self.next_id, "data": data, "window_size": window });
        if self.options.ranks > 1 {
            event["attention_dp_rank"] = self.rank.into();
        }
        self.next_id += 1;
        let mut out = self.out.lock();
        if out.len() == BUFFERED {
            out.pop_front();
        }
        out.push_back(event);
    }

    /// The same for every window.
    fn push_all(&mut self, data: &Value) {
        for window in self.windows() {
            self.push(window, data.clone());
        }
    }

    pub(crate) fn publish(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Stored { hashes, parent, tokens, .. } => {
                    self.stored(hashes, *parent, tokens);
                }
                Event::Partial { hash, parent, tokens } => {
                    let block = self.block(*hash, tokens);
                    self.push_stored(*parent, vec![block]);
                }
                Event::Removed { hash } => self.removed(*hash),
                Event::Cleared => {
                    let all: Vec<u64> = self
                        .device
                        .drain()
                        .map(|(hash, _)| hash)
                        .chain(self.host.drain(..))
                        .collect();
                    self.push_removed(&all);
                }
            }
        }
    }

    fn stored(&mut self, hashes: &[u64], mut parent: Option<u64>, tokens: &[u32]) {
        let mut run = Vec::new();
        let size = self.options.block_size;
        for (at, (&hash, tokens)) in hashes.iter().zip(tokens.chunks_exact(size)).enumerate() {
            *self.device.entry(hash).or_default() += 1;
            let Some(on_host) = self.host.iter().position(|&on_host| on_host == hash) else {
                if run.is_empty() && at > 0 {
                    parent = hashes.get(at - 1).copied();
                }
                run.push(self.block(hash, tokens));
                continue;
            };
            // It comes back from the host, which is no new block.
            self.host.remove(on_host);
            self.push_stored(parent, std::mem::take(&mut run));
            self.push_moved(hash, 1, 0);
        }
        self.push_stored(parent, run);
    }

    fn removed(&mut self, hash: u64) {
        if let Some(copies) = self.device.get_mut(&hash) {
            *copies -= 1;
            if *copies > 0 {
                return self.push_removed(&[hash]);
            }
            self.device.remove(&hash);
        }
        if self.options.host_blocks == 0 {
            return self.push_removed(&[hash]);
        }
        self.push_moved(hash, 0, 1);
        self.host.push_back(hash);
        if self.host.len() > self.options.host_blocks
            && let Some(oldest) = self.host.pop_front()
        {
            self.push_removed(&[oldest]);
        }
    }

    fn block(&self, hash: u64, tokens: &[u32]) -> Value {
        let token =
            |id: &u32| json!({ "type": "unique_token", "token_id": id, "token_extra_id": 0 });
        let mut block = json!({
            "type": "stored_block", "block_hash": self.name(hash), "cache_level": 0, "priority": 35,
            "mm_keys": [],
        });
        if !self.options.events_without_tokens {
            block["tokens"] = tokens.iter().map(token).collect();
        }
        block
    }

    /// An integer, or with the second cache manager the digits of a digest.
    fn name(&self, hash: u64) -> Value {
        if !self.options.byte_hashes {
            return hash.into();
        }
        let part = |at: u64| warmpath_blocks::sequence_hash(hash, at);
        format!("{:016x}{:016x}{:016x}{hash:016x}", part(1), part(2), part(3)).into()
    }

    fn push_stored(&mut self, parent: Option<u64>, blocks: Vec<Value>) {
        if !blocks.is_empty() {
            let parent = parent.map(|hash| self.name(hash));
            self.push_all(&json!({ "type": "stored", "parent_hash": parent, "blocks": blocks }));
        }
    }

    fn push_removed(&mut self, hashes: &[u64]) {
        if !hashes.is_empty() {
            let names: Vec<Value> = hashes.iter().map(|&hash| self.name(hash)).collect();
            self.push_all(&json!({ "type": "removed", "block_hashes": names }));
        }
    }

    fn push_moved(&mut self, hash: u64, from: u32, to: u32) {
        let diff = json!({ "type": "event_diff", "new_value": to, "old_value": from });
        self.push_all(&json!({
            "type": "updated", "block_hash": self.name(hash), "cache_level": diff, "priority": null,
        }));
    }
}
