//! The paged cache of one rank: blocks, who uses them, which come back first.

use hashbrown::HashMap;

use super::Event;

/// A physical block.
pub(super) type BlockId = usize;

/// Block 0 is never handed out, as in vLLM, so it serves as both ends of the free list.
const ENDS: BlockId = 0;

/// Physical blocks, the free list in order of eviction, and the index of what is cached.
///
/// A free block keeps its content and its hash until it is handed out again,
/// so the free list is the cache's LRU list as well. A list linked through the
/// blocks lets a hit take its block out of the middle in constant time.
pub(super) struct Pool {
    blocks: Vec<Block>,
    free: usize,
    cached: HashMap<u64, Vec<BlockId>>,
}

#[derive(Clone, Default)]
struct Block {
    users: u32,
    hash: Option<u64>,
    before: BlockId,
    after: BlockId,
}

impl Pool {
    /// `count` blocks, of which `count - 1` can be used.
    pub(super) fn new(count: usize) -> Pool {
        let mut pool =
            Pool { blocks: vec![Block::default(); count.max(1)], free: 0, cached: HashMap::new() };
        for block in 1..pool.blocks.len() {
            pool.link(block, pool.blocks[ENDS].before, ENDS);
        }
        pool
    }

    /// Blocks that can be used at all.
    pub(super) fn capacity(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Blocks that no request uses, cached or not.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// The oldest physical copy of the block with this hash.
    pub(super) fn lookup(&self, hash: u64) -> Option<BlockId> {
        self.cached.get(&hash)?.first().copied()
    }

    /// Whether no request uses the block.
    pub(super) fn is_free(&self, block: BlockId) -> bool {
        self.blocks[block].users == 0
    }

    /// One more request uses a cached block.
    pub(super) fn share(&mut self, block: BlockId) {
        if self.is_free(block) {
            self.unlink(block);
        }
        self.blocks[block].users += 1;
    }

    /// Hands out a block, evicting what it held. None where all are in use.
    pub(super) fn take(&mut self, events: &mut Vec<Event>) -> Option<BlockId> {
        let block = self.blocks[ENDS].after;
        if block == ENDS {
            return None;
        }
        self.unlink(block);
        if let Some(hash) = self.blocks[block].hash.take() {
            self.forget(hash, block);
            events.push(Event::Removed { hash });
        }
        self.blocks[block].users = 1;
        Some(block)
    }

    /// Makes a block in use findable. Other blocks may hold the same content.
    pub(super) fn cache(&mut self, block: BlockId, hash: u64) {
        self.blocks[block].hash = Some(hash);
        self.cached.entry(hash).or_default().push(block);
    }

    /// One request no longer uses these blocks; of those that become free, the first is evicted first.
    ///
    /// Blocks without a hash go to the front of the list: nothing is lost with them.
    pub(super) fn release(&mut self, blocks: impl Iterator<Item = BlockId>) {
        let first = self.blocks[ENDS].after;
        let mut cached = Vec::new();
        for block in blocks {
            self.blocks[block].users -= 1;
            match (self.blocks[block].users, self.blocks[block].hash) {
                (0, None) => self.link(block, self.blocks[first].before, first),
                (0, Some(_)) => cached.push(block),
                _ => {}
            }
        }
        for block in cached {
            self.link(block, self.blocks[ENDS].before, ENDS);
        }
    }

    /// Forgets all content; false, and nothing done, where a block is in use.
    pub(super) fn clear(&mut self) -> bool {
        if self.free < self.capacity() {
            return false;
        }
        self.cached.clear();
        self.blocks.iter_mut().for_each(|block| block.hash = None);
        true
    }

    /// Physical blocks with content that can be found.
    #[cfg(test)]
    pub(super) fn resident(&self) -> HashMap<u64, usize> {
        self.cached.iter().map(|(&hash, copies)| (hash, copies.len())).collect()
    }

    /// Recounts everything; `users` is how often each block is used.
    #[cfg(test)]
    pub(super) fn audit(&self, users: &HashMap<BlockId, u32>) {
        let mut listed = 0;
        let mut block = self.blocks[ENDS].after;
        while block != ENDS {
            assert_eq!(self.blocks[block].users, 0, "free block {block} is in use");
            assert_eq!(self.blocks[self.blocks[block].after].before, block);
            listed += 1;
            block = self.blocks[block].after;
        }
        assert_eq!(listed, self.free);
        for (id, block) in self.blocks.iter().enumerate().skip(1) {
            assert_eq!(block.users, users.get(&id).copied().unwrap_or(0), "users of block {id}");
            if let Some(hash) = block.hash {
                assert!(self.cached[&hash].contains(&id), "block {id} cannot be found");
            }
        }
        let with_hash = self.blocks.iter().filter(|block| block.hash.is_some()).count();
        assert_eq!(self.cached.values().map(Vec::len).sum::<usize>(), with_hash);
        assert_eq!(listed + users.len(), self.capacity());
    }

    fn forget(&mut self, hash: u64, block: BlockId) {
        if let Some(copies) = self.cached.get_mut(&hash) {
            copies.retain(|&copy| copy != block);
            if copies.is_empty() {
                self.cached.remove(&hash);
            }
        }
    }

    fn link(&mut self, block: BlockId, before: BlockId, after: BlockId) {
        self.blocks[block].before = before;
        self.blocks[block].after = after;
        self.blocks[before].after = block;
        self.blocks[after].before = block;
        self.free += 1;
    }

    fn unlink(&mut self, block: BlockId) {
        let Block { before, after, .. } = self.blocks[block];
        self.blocks[before].after = after;
        self.blocks[after].before = before;
        self.free -= 1;
    }
}
