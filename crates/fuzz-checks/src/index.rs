//! Any events, however wrong, leave the index adding up.
//!
//! Input: one operation after the other, each a few bytes. Few workers, few contents
//! and few names, so that they meet.

use warmpath_radix::{Block, EngineHash, Holder, Index, WorkerId};

use crate::bytes::Bytes;

/// Auditing costs as much as there is in the index.
const MOST_OPERATIONS: usize = 200;
const LONGEST: usize = 40;

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let index = Index::new();
    for _ in 0..MOST_OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        operate(&index, &mut bytes);
        index.audit().expect("the index adds up");
    }
    let locals: Vec<u64> = (0..LONGEST as u64).collect();
    for found in index.find_matches(&locals) {
        assert!(found.blocks >= 1 && found.blocks as usize <= locals.len(), "{found:?}");
        assert!(found.blocks as usize <= index.blocks(found.holder), "{found:?}");
    }
    for worker in 0..3 {
        index.remove_worker(WorkerId(worker));
    }
    index.audit().expect("the index adds up");
    assert_eq!(index.stats().holder_blocks, 0, "nothing is left behind");
}

fn operate(index: &Index, bytes: &mut Bytes<'_>) {
    let operation = bytes.byte();
    let holder = Holder {
        worker: WorkerId(u32::from(operation >> 4) % 3),
        rank: u32::from(operation >> 6) % 2,
    };
    match operation % 8 {
        0..=3 => {
            let parent = bytes.byte();
            let parent = (parent != 0).then(|| engine(parent));
            // Chains that agree for long and part late are what trees are made of.
            let (first, length) = (bytes.byte(), 1 + bytes.below(LONGEST));
            let renamed = bytes.byte();
            let blocks: Vec<Block> = (0..length)
                .map(|at| {
                    let content = first.wrapping_add(at as u8) % 64;
                    let name = content.wrapping_add(renamed % 4 * 64);
                    Block { local: u64::from(content), engine: engine(name) }
                })
                .collect();
            // An unknown parent is an answer as well.
            let _ = index.store(holder, parent, u64::from(renamed >> 6), &blocks);
        }
        4 | 5 => {
            let count = bytes.below(16);
            let names: Vec<_> = bytes.take(count).iter().copied().map(engine).collect();
            index.remove_many(holder, &names);
        }
        6 => drop(
            index.find_matches(&bytes.take(8).iter().map(|&b| u64::from(b)).collect::<Vec<_>>()),
        ),
        _ if operation & 8 != 0 => drop(index.remove_worker(holder.worker)),
        _ => drop(index.clear(holder)),
    }
}

/// Some names are numbers and some digests.
fn engine(name: u8) -> EngineHash {
    if name.is_multiple_of(5) {
        EngineHash::Bytes([name; 32])
    } else {
        EngineHash::Int(u64::from(name))
    }
}
