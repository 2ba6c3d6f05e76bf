//! The workers' caches: what each request makes its worker store and evict.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::trace::Block;

/// What one request does to the worker that serves it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) worker: u32,
    /// Local hashes of the request.
    pub(crate) query: Vec<u64>,
    /// Engine hash of the last block that the worker had.
    pub(crate) parent: Option<u64>,
    /// The chain behind it.
    pub(crate) stored: Vec<Block>,
    /// Engine hashes of what had to go.
    pub(crate) removed: Vec<u64>,
}

/// Keys are hashes already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One engine's cache: blocks in the order of their last use, evicted tail first.
pub(crate) struct Cache {
    capacity: usize,
    last_use: HashMap<u64, u64, BuildHasherDefault<AsIs>>,
    order: VecDeque<(Block, u64)>,
    clock: u64,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, last_use: HashMap::default(), order: VecDeque::new(), clock: 0 }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.last_use.len()
    }

    /// How many leading blocks of `query` it has.
    pub(crate) fn overlap(&self, request: &[Block]) -> usize {
        request.iter().take_while(|block| self.last_use.contains_key(&block.local)).count()
    }

    pub(crate) fn serve(&mut self, worker: u32, request: &[Block]) -> Step {
        let request = &request[..request.len().min(self.capacity)];
        let known = self.overlap(request);
        for &block in request.iter().rev() {
            self.clock += 1;
            self.last_use.insert(block.local, self.clock);
            self.order.push_back((block, self.clock));
        }
        let mut removed = Vec::new();
        while self.last_use.len() > self.capacity
            && let Some((block, used)) = self.order.pop_front()
        {
            if self.last_use.get(&block.local) == Some(&used) {
                self.last_use.remove(&block.local);
                removed.push(block.engine);
            }
        }
        // Uses that were overtaken pile up behind the oldest block.
        if self.order.len() > 4 * self.capacity {
            let last_use = &self.last_use;
            self.order.retain(|(block, used)| last_use.get(&block.local) == Some(used));
        }
        Step {
            worker,
            query: request.iter().map(|block| block.local).collect(),
            parent: known.checked_sub(1).map(|at| request[at].engine),
            stored: request[known..].to_vec(),
            removed,
        }
    }
}

/// Workers that take requests in turn.
pub(crate) struct Fleet {
    caches: Vec<Cache>,
    turn: usize,
}

impl Fleet {
    pub(crate) fn new(workers: usize, capacity: usize) -> Self {
        Self { caches: (0..workers).map(|_| Cache::new(capacity)).collect(), turn: 0 }
    }

    pub(crate) fn serve(&mut self, request: &[Block]) -> Step {
        let worker = self.turn % self.caches.len();
        self.turn += 1;
        self.caches[worker].serve(worker as u32, request)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.caches.iter().map(Cache::blocks).sum()
    }

    /// What an index has to answer: every worker with its leading blocks, by worker.
    pub(crate) fn overlaps(&self, request: &[Block]) -> Vec<(u32, u32)> {
        let overlaps = self.caches.iter().map(|cache| cache.overlap(request) as u32);
        (0..).zip(overlaps).filter(|&(_, blocks)| blocks > 0).collect()
    }
}
