//! The concurrent core under a scheduler that tries interleavings at every lock: the
//! crate's own sources, with locks that the scheduler knows (`support/model_sync.rs`).

#![allow(dead_code, unreachable_pub, unused_imports)]

#[path = "../src/aside.rs"]
mod aside;
#[path = "../src/cover.rs"]
mod cover;
#[path = "../src/dump.rs"]
mod dump;
#[path = "../src/evict.rs"]
mod evict;
#[path = "../src/find.rs"]
mod find;
#[path = "../src/held.rs"]
mod held;
#[path = "../src/index.rs"]
mod index;
#[path = "../src/lane.rs"]
mod lane;
#[path = "../src/names.rs"]
mod names;
#[path = "../src/node.rs"]
mod node;
#[path = "../src/predict.rs"]
mod predict;
#[path = "../src/prefetch.rs"]
mod prefetch;
#[path = "../src/run.rs"]
mod run;
#[path = "../src/seat.rs"]
mod seat;
#[path = "../src/slab.rs"]
mod slab;
#[path = "../src/snapshot.rs"]
mod snapshot;
#[path = "support/model_sync.rs"]
mod sync;
#[path = "../src/table.rs"]
mod table;
#[path = "../src/tree.rs"]
mod tree;
#[path = "../src/types.rs"]
mod types;

use std::sync::Arc;

pub use dump::Chain;
pub use find::Matches;
pub use index::Index;
pub use types::*;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;

const SHARED: u64 = 40;
const LENGTH: u64 = 70;

fn holder(worker: u32) -> Holder {
    Holder { worker: WorkerId(worker), rank: 0 }
}

/// All begin alike; the rest of each worker's is its own.
fn chain(worker: u32) -> Vec<Block> {
    let local = |at| if at < SHARED { at } else { at + 1000 * (u64::from(worker) + 1) };
    let engine = |at: u64| EngineHash(at * 8 + u64::from(worker));
    (0..LENGTH).map(|at| Block { local: local(at), engine: engine(at) }).collect()
}

fn locals(worker: u32) -> Vec<u64> {
    chain(worker).iter().map(|block| block.local).collect()
}

fn write(index: &Index, worker: u32) {
    let (me, blocks) = (holder(worker), chain(worker));
    let (first, second) = blocks.split_at(50);
    let parent = Some(first[49].engine);
    index.predict(me, &locals(worker), 5);
    index.store(me, Tier::Device, parent, 0, second).unwrap();
    index.store(me, Tier::Device, None, 0, first).unwrap();
    let names: Vec<EngineHash> = blocks.iter().rev().map(|block| block.engine).collect();
    index.hold(me, Tier::Host, &names[..40]);
    index.remove(me, Tier::Device, &names[..25]);
    index.store(me, Tier::Device, Some(first[44].engine), 0, &blocks[45..60]).unwrap();
    index.expire(9);
    index.remove(me, Tier::Device, &names[30..]);
}

/// No reader sees what nobody has, however the threads are interleaved, and what they
/// leave is consistent.
fn readers_and_writers(index: Index) {
    let index = Arc::new(index);
    let writers: Vec<_> = (0..2)
        .map(|worker| {
            let index = Arc::clone(&index);
            thread::spawn(move || write(&index, worker))
        })
        .collect();
    let clearing = {
        let index = Arc::clone(&index);
        thread::spawn(move || {
            index.clear(holder(1));
            index.dump(holder(0))
        })
    };
    for worker in [0, 1] {
        for found in index.find_matches(&locals(worker)) {
            let most = if found.holder == holder(worker) { LENGTH } else { SHARED };
            assert!(u64::from(found.disk.max(found.predicted)) <= most, "{found:?}");
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let told = clearing.join().unwrap();
    assert!(told.iter().all(|chain| chain.blocks.len() <= LENGTH as usize));
    index.audit().unwrap();
    index.remove_worker(WorkerId(0));
    index.remove_worker(WorkerId(1));
    index.audit().unwrap();
    assert_eq!(index.stats().nodes, 0);
}

fn try_all(scheduler: impl Scheduler + 'static, index: fn() -> Index) {
    let mut config = shuttle::Config::new();
    // A page of a slab is made on it.
    config.stack_size = 1 << 18;
    shuttle::Runner::new(scheduler, config).run(move || readers_and_writers(index()));
}

#[test]
fn random_interleavings_do_no_harm() {
    try_all(RandomScheduler::new(1000), Index::new);
}

#[test]
fn interleavings_with_few_preemptions_do_no_harm() {
    try_all(PctScheduler::new(3, 1000), Index::new);
}

#[test]
fn interleavings_under_a_tight_ceiling_do_no_harm() {
    try_all(RandomScheduler::new(400), || Index::with_ceiling(256 << 10));
}
