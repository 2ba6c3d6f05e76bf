//! The ceiling: what is counted is what is taken, and it is never passed.

#[path = "support/counting.rs"]
mod counting;

use counting::{Counting, live};
use warmpath_radix::{Block, EngineHash, Holder, Index, Tier, WorkerId};

#[global_allocator]
static HEAP: Counting = Counting;

fn holder(worker: u32) -> Holder {
    Holder { worker: WorkerId(worker), rank: 0 }
}

/// A chain of its own behind a beginning that all share.
fn chain(number: u64, len: u64) -> Vec<Block> {
    (0..len)
        .map(|at| if at < 8 { at } else { at + (number + 1) * 1_000_000 })
        .map(|local| Block { local, engine: EngineHash(local * 7) })
        .collect()
}

fn locals(chain: &[Block]) -> Vec<u64> {
    chain.iter().map(|block| block.local).collect()
}

/// Of one test at a time: the heap is everybody's.
#[test]
fn the_index_counts_its_heap_stays_below_its_ceiling_and_keeps_what_is_asked_for() {
    counts_what_it_takes();
    stays_below();
    keeps_what_is_asked_for();
}

fn counts_what_it_takes() {
    let index = Index::new();
    let empty = live();
    let own = index.stats().bytes;
    for number in 0..3_000 {
        let chain = chain(number, 20 + number % 90);
        index.store(holder(number as u32 % 3), Tier::Device, None, 0, &chain).unwrap();
        if number % 5 == 0 {
            let names: Vec<_> = chain[9..].iter().map(|block| block.engine).collect();
            index.remove(holder(number as u32 % 3), Tier::Device, &names);
        }
    }
    let (taken, counted) = (live() - empty, index.stats().bytes - own);
    let difference = taken.abs_diff(counted);
    assert!(difference < taken / 50, "{taken} bytes taken, {counted} counted");
}

fn stays_below() {
    const CEILING: usize = 8 << 20;
    let empty = live();
    let index = Index::with_ceiling(CEILING);
    for number in 0..12_000 {
        let chain = chain(number, 50 + number % 300);
        let worker = holder((number % 7 % 4) as u32);
        index.store(worker, Tier::Device, None, 0, &chain).unwrap();
        let query = locals(&chain);
        drop(chain);
        assert!(index.find_matches(&query).iter().any(|found| found.blocks == query.len() as u32));
        drop(query);
        let taken = live() - empty;
        assert!(taken <= CEILING, "{taken} bytes after {number} chains");
        if number % 1000 == 0 {
            index.audit().unwrap();
        }
    }
    let stats = index.stats();
    assert!(stats.evicted > 100_000, "{stats:?}");
    assert!(stats.bytes > CEILING / 2, "{stats:?}");
    let held = (0..4).map(|worker| index.blocks(holder(worker), Tier::Device)).sum::<usize>();
    assert_eq!(held, stats.holder_blocks);
    index.audit().unwrap();
}

fn keeps_what_is_asked_for() {
    let index = Index::with_ceiling(4 << 20);
    let kept: Vec<Vec<u64>> = (0..40)
        .map(|number| {
            let chain = chain(number, 60);
            index.store(holder(0), Tier::Device, None, 0, &chain).unwrap();
            locals(&chain)
        })
        .collect();
    for number in 40..6_000 {
        index.store(holder(0), Tier::Device, None, 0, &chain(number, 100)).unwrap();
        let query = &kept[number as usize % kept.len()];
        index.find_matches(query);
    }
    assert!(index.stats().evicted > 300_000);
    let whole = kept.iter().filter(|query| index.find_matches(query)[0].blocks == 60).count();
    assert!(whole >= kept.len() * 9 / 10, "{whole} of {} are whole", kept.len());
    assert_eq!(index.find_matches(&[1_000_000_008]).len(), 0);
}
