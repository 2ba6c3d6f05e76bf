//! Memory: a fleet that fills and drains for weeks takes no more than on its first
//! day, and a held block costs what the crate says.

#[path = "support/counting.rs"]
mod counting;

use counting::{Counting, live};
use warmpath_radix::{Block, EngineHash, Holder, Index, Tier, WorkerId};

#[global_allocator]
static HEAP: Counting = Counting;

const WORKERS: u32 = 4;
const CHAINS: u64 = 40;

fn holder(worker: u32) -> Holder {
    Holder { worker: WorkerId(worker), rank: 0 }
}

/// A chain that shares its first blocks with all and some more with a few.
fn chain(cycle: u64, number: u64) -> Vec<Block> {
    let local = |at: u64| match at {
        0..8 => at,
        8..40 => at + 1_000 * (number % 5 + 1),
        _ => at + 1_000_000 * (number + CHAINS * cycle + 1),
    };
    (0..100 + number % 60)
        .map(|at| Block { local: local(at), engine: EngineHash(local(at) * 7) })
        .collect()
}

/// Fills, measures, drains: by removals in one order or another, or by clearing.
fn cycle(index: &Index, cycle: u64) -> usize {
    let chains: Vec<Vec<Block>> = (0..CHAINS).map(|number| chain(cycle, number)).collect();
    for (number, chain) in chains.iter().enumerate() {
        let worker = holder(number as u32 % WORKERS);
        index.store(worker, Tier::Device, None, 0, chain).unwrap();
    }
    let full = live();
    for (number, chain) in chains.iter().enumerate() {
        let worker = holder(number as u32 % WORKERS);
        let mut names: Vec<EngineHash> = chain.iter().map(|block| block.engine).collect();
        match cycle % 3 {
            0 => names.reverse(),
            1 => {}
            _ => {
                index.clear(worker);
            }
        }
        index.remove(worker, Tier::Device, &names);
    }
    for worker in 0..WORKERS {
        index.clear(holder(worker));
    }
    assert_eq!(index.stats().nodes, 0);
    full - chains.iter().map(|chain| chain.capacity() * size_of::<Block>()).sum::<usize>()
}

#[test]
fn two_hundred_cycles_leave_the_heap_as_the_first_did() {
    let index = Index::new();
    // Each way of draining once; what they leave behind is reused from then on.
    let full = (0..3).map(|round| cycle(&index, round)).max().unwrap_or(0);
    let drained = live();
    for round in 3..200 {
        let now = cycle(&index, round);
        assert!(now <= full + full / 20, "round {round}: {now} bytes when full, first {full}");
    }
    index.audit().unwrap();
    let now = live();
    assert!(now <= drained + drained / 20, "{now} bytes after 200 cycles, first {drained}");
}
