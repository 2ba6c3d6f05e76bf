//! A token sequence and the engine hashes of its full blocks.

use std::sync::Arc;

use super::{Event, Scope};

impl Event {
    /// A stored chain as one event for each of its blocks; others as they are.
    pub(crate) fn pages(&self, block_size: usize) -> Vec<Event> {
        let Event::Stored { hashes, parent, tokens, first, scope } = self else {
            return vec![self.clone()];
        };
        let mut parent = *parent;
        let pages = hashes.iter().zip(tokens.chunks_exact(block_size)).enumerate();
        pages
            .map(|(at, (&hash, tokens))| Event::Stored {
                hashes: vec![hash],
                parent: parent.replace(hash),
                tokens: tokens.to_vec(),
                first: *first && at == 0,
                scope: scope.clone(),
            })
            .collect()
    }
}

/// Tokens with the hash of every full block, each chained from the one before.
///
/// vLLM hashes with SHA-256 and publishes the low 64 bits. Nobody may depend on
/// the function, so any will do that mixes the same things in: parent, tokens,
/// adapter and salt. Here it is XXH3 seeded with the parent's hash.
pub(super) struct Chain {
    block_size: usize,
    tokens: Vec<u32>,
    hashes: Vec<u64>,
    root: u64,
    /// Stands for adapter and salt in the first block.
    first_key: u64,
    /// Stands for the adapter in every other block.
    later_key: u64,
    scratch: Vec<u8>,
}

impl Chain {
    pub(super) fn new(block_size: usize, seed: u64, scope: &Scope) -> Chain {
        let adapter = scope.adapter.as_ref().map(|adapter| adapter.name.as_str());
        // Mixed, so that neighbouring seeds, or 0, give unrelated roots.
        let root = warmpath_blocks::sequence_hash(seed, !seed);
        Chain {
            block_size,
            tokens: Vec::new(),
            hashes: Vec::new(),
            root,
            first_key: warmpath_blocks::seed(adapter, scope.cache_salt.as_deref()),
            later_key: warmpath_blocks::seed(adapter, None),
            scratch: Vec::new(),
        }
    }

    pub(super) fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        let full = self.tokens.len() / self.block_size;
        for at in self.hashes.len()..full {
            let parent = self.hashes.last().copied().unwrap_or(self.root);
            let key = if at == 0 { self.first_key } else { self.later_key };
            let block = &self.tokens[at * self.block_size..(at + 1) * self.block_size];
            let hash = warmpath_blocks::local_hash(block, &[key], parent, &mut self.scratch);
            self.hashes.push(hash);
        }
    }

    pub(super) fn block_size(&self) -> usize {
        self.block_size
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The event that announces the blocks from `start` to before `end`.
    pub(super) fn stored(&self, start: usize, end: usize, scope: &Arc<Scope>) -> Event {
        Event::Stored {
            hashes: self.hashes[start..end].to_vec(),
            parent: start.checked_sub(1).map(|before| self.hashes[before]),
            tokens: self.tokens[start * self.block_size..end * self.block_size].to_vec(),
            first: start == 0,
            scope: scope.clone(),
        }
    }
}
