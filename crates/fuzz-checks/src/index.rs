//! Any events, however wrong, leave the index adding up and below its ceiling.
//!
//! Input: whether there is a ceiling; then one operation after the other, each a few
//! bytes. Few workers, few contents and few names, so that they meet.

use warmpath_radix::{Block, EngineHash, Holder, Index, Tier, WorkerId};

use crate::bytes::Bytes;

/// Auditing costs as much as there is in the index.
const MOST_OPERATIONS: usize = 200;
pub(crate) const LONGEST: usize = 40;
/// Room for some hundreds of blocks.
const CEILING: usize = 48 << 10;

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let ceiling = bytes.byte() % 2 == 1;
    let index = if ceiling { Index::with_ceiling(CEILING) } else { Index::new() };
    for now in 0..MOST_OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        operate(&index, &mut bytes, now as u64);
        index.audit().expect("the index adds up");
        if ceiling {
            let taken = index.stats().bytes;
            assert!(taken <= CEILING, "{taken} bytes");
        }
    }
    let locals: Vec<u64> = (0..LONGEST as u64).collect();
    for found in index.find_matches(&locals) {
        assert!(found.blocks <= found.host && found.host <= found.disk, "{found:?}");
        assert!(
            found.blocks <= found.predicted && found.disk.max(found.predicted) >= 1,
            "{found:?}"
        );
        assert!(found.disk as usize <= locals.len(), "{found:?}");
        assert!(found.blocks as usize <= index.blocks(found.holder, Tier::Device), "{found:?}");
    }
    index.expire(u64::MAX);
    for worker in 0..3 {
        index.remove_worker(WorkerId(worker));
    }
    index.audit().expect("the index adds up");
    let stats = index.stats();
    assert_eq!((stats.holder_blocks, stats.nodes, stats.aside), (0, 0, 0), "{stats:?}");
}

pub(crate) fn operate(index: &Index, bytes: &mut Bytes<'_>, now: u64) {
    let operation = bytes.byte();
    let holder = holder_of(operation >> 4);
    match operation % 16 {
        0..=5 => {
            let parent = bytes.byte();
            let parent = (parent != 0).then(|| engine(parent));
            // Chains that agree for long and part late are what trees are made of.
            let (first, length) = (bytes.byte(), 1 + bytes.below(LONGEST));
            let (renamed, tier) = (bytes.byte(), tier(bytes));
            let blocks: Vec<Block> = (0..length)
                .map(|at| {
                    let content = first.wrapping_add(at as u8) % 64;
                    let name = content.wrapping_add(renamed % 4 * 64);
                    Block { local: u64::from(content), engine: engine(name) }
                })
                .collect();
            // What it refuses changes nothing, which the audit sees.
            let _ = index.store(holder, tier, parent, u64::from(renamed >> 6), &blocks);
        }
        6..=8 => {
            index.remove(holder, tier(bytes), &engines(bytes));
        }
        9 => {
            index.hold(holder, tier(bytes), &engines(bytes));
        }
        10 | 11 => {
            let expires = now + bytes.below(8) as u64;
            index.predict(holder, &locals(bytes), expires);
        }
        12 => index.expire(now),
        13 => {
            index.find_matches(&locals(bytes));
        }
        14 => {
            index.remove_worker(holder.worker);
        }
        _ => {
            index.clear(holder);
        }
    }
}

/// Which holder the upper half of an operation names.
pub(crate) fn holder_of(number: u8) -> Holder {
    Holder { worker: WorkerId(u32::from(number) % 3), rank: u32::from(number >> 2) % 2 }
}

fn tier(bytes: &mut Bytes<'_>) -> Tier {
    // The device is where most happens.
    Tier::ALL[bytes.below(8).saturating_sub(5)]
}

fn locals(bytes: &mut Bytes<'_>) -> Vec<u64> {
    let (first, length) = (bytes.byte(), bytes.below(LONGEST));
    (0..length).map(|at| u64::from(first.wrapping_add(at as u8) % 64)).collect()
}

fn engines(bytes: &mut Bytes<'_>) -> Vec<EngineHash> {
    let count = bytes.below(16);
    bytes.take(count).iter().copied().map(engine).collect()
}

fn engine(name: u8) -> EngineHash {
    EngineHash(u64::from(name))
}
