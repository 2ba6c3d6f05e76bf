//! dynamo-kv-router's three indexes.
//!
//! The concurrent two take events only through their own thread pool, so they are
//! measured with it, one thread; reads are answered on the caller's thread, as in
//! Dynamo's router. A batch of events is timed from its first until the pool has
//! worked off the last.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

use dynamo_kv_router::indexer::{KvIndexerInterface, SyncIndexer, ThreadPoolIndexer};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, OverlapScores, RouterEvent,
};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, PositionalIndexer, RadixTree};
use tokio::runtime::{Builder, Runtime};

use crate::cache::Step;
use crate::engine::Engine;
use crate::trace::Block;

/// Positions that PositionalIndexer skips at a time; its documentation's example.
const JUMP: usize = 32;
/// Steps that wait in the pool's queue while it churns.
const AHEAD: usize = 32;

fn event(worker: u32, data: KvCacheEventData) -> RouterEvent {
    RouterEvent::new(u64::from(worker), KvCacheEvent { event_id: 0, data, dp_rank: 0 })
}

fn store(step: &Step) -> RouterEvent {
    let block = |block: &Block| KvCacheStoredBlockData {
        block_hash: ExternalSequenceBlockHash(block.engine),
        tokens_hash: LocalBlockHash(block.local),
        mm_extra_info: None,
    };
    let data = KvCacheStoreData {
        parent_hash: step.parent.map(ExternalSequenceBlockHash),
        start_position: None,
        blocks: step.stored.iter().map(block).collect(),
    };
    event(step.worker, KvCacheEventData::Stored(data))
}

fn remove(worker: u32, names: impl Iterator<Item = u64>) -> RouterEvent {
    let block_hashes = names.map(ExternalSequenceBlockHash).collect();
    event(worker, KvCacheEventData::Removed(KvCacheRemoveData { block_hashes }))
}

fn events(steps: &[Step]) -> Vec<RouterEvent> {
    let mut events = Vec::with_capacity(2 * steps.len());
    for step in steps {
        if !step.stored.is_empty() {
            events.push(store(step));
        }
        if !step.removed.is_empty() {
            events.push(remove(step.worker, step.removed.iter().copied()));
        }
    }
    events
}

fn query(local: &[u64]) -> Vec<LocalBlockHash> {
    local.iter().copied().map(LocalBlockHash).collect()
}

fn answer(found: &OverlapScores) -> Vec<(u32, u32)> {
    let mut answer: Vec<(u32, u32)> = found
        .scores
        .iter()
        .filter(|&(_, &blocks)| blocks > 0)
        .map(|(worker, &blocks)| (worker.worker_id as u32, blocks))
        .collect();
    answer.sort_unstable();
    answer
}

/// RadixTree: one thread.
pub(crate) struct Single(RefCell<RadixTree>);

impl Single {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(RadixTree::new()))
    }
}

impl Engine for Single {
    type Query = Vec<LocalBlockHash>;
    type Found = OverlapScores;
    type Events = Vec<RouterEvent>;

    fn query(local: &[u64]) -> Self::Query {
        query(local)
    }

    fn events(steps: &[Step]) -> Self::Events {
        events(steps)
    }

    fn find(&self, query: &mut Self::Query) -> OverlapScores {
        self.0.borrow().find_matches(std::mem::take(query), false)
    }

    fn answer(found: &OverlapScores) -> Vec<(u32, u32)> {
        answer(found)
    }

    fn apply(&self, events: Self::Events) {
        let mut tree = self.0.borrow_mut();
        for event in events {
            // A block that it does not know is an error to it, after which it goes on.
            let _ = tree.apply_event(event);
        }
    }

    fn churn(&self, _steps: &[Step], _done: &AtomicBool) -> usize {
        0
    }
}

/// An index behind Dynamo's thread pool of one.
pub(crate) struct Pooled<T: SyncIndexer> {
    pool: ThreadPoolIndexer<T>,
    runtime: Runtime,
}

impl Pooled<ConcurrentRadixTreeCompressed> {
    pub(crate) fn concurrent() -> Self {
        Self::new(ConcurrentRadixTreeCompressed::new())
    }
}

impl Pooled<PositionalIndexer> {
    pub(crate) fn positional() -> Self {
        Self::new(PositionalIndexer::new(JUMP))
    }
}

impl<T: SyncIndexer> Pooled<T> {
    fn new(index: T) -> Self {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let pool = ThreadPoolIndexer::new(index, 1, 16);
        Self { pool, runtime }
    }

    fn flush(&self) {
        self.runtime.block_on(self.pool.flush_and_wait()).expect("the pool lives");
    }

    fn send(&self, event: RouterEvent) {
        self.runtime.block_on(self.pool.apply_event(event));
    }
}

impl<T: SyncIndexer> Engine for Pooled<T> {
    type Query = Vec<LocalBlockHash>;
    type Found = OverlapScores;
    type Events = Vec<RouterEvent>;

    fn query(local: &[u64]) -> Self::Query {
        query(local)
    }

    fn events(steps: &[Step]) -> Self::Events {
        events(steps)
    }

    fn find(&self, query: &mut Self::Query) -> OverlapScores {
        self.pool.backend().find_matches(query, false)
    }

    fn answer(found: &OverlapScores) -> Vec<(u32, u32)> {
        answer(found)
    }

    fn apply(&self, events: Self::Events) {
        for event in events {
            self.send(event);
        }
        self.flush();
    }

    fn churn(&self, steps: &[Step], done: &AtomicBool) -> usize {
        let mut blocks = 0;
        for chunk in steps.chunks(AHEAD).cycle() {
            if done.load(Ordering::Relaxed) {
                break;
            }
            // Made while the pool works off the chunk before.
            let events: Vec<RouterEvent> = chunk
                .iter()
                .flat_map(|step| {
                    let names = step.stored.iter().map(|block| block.engine);
                    [remove(step.worker, names), store(step)]
                })
                .collect();
            self.flush();
            for event in events {
                self.send(event);
            }
            blocks += 2 * chunk.iter().map(|step| step.stored.len()).sum::<usize>();
        }
        self.flush();
        blocks
    }
}
