//! What the index promises, case by case, and against a naive model.

mod dump;
mod features;
mod histories;
mod naive;
mod table;
mod threads;

use super::*;

const A: Holder = Holder { worker: WorkerId(1), rank: 0 };
const B: Holder = Holder { worker: WorkerId(2), rank: 0 };

const NONE: Dropped = Dropped { last: 0, copies: 0, aside: 0, unknown: 0 };
const LAST: Dropped = Dropped { last: 1, ..NONE };
const COPY: Dropped = Dropped { copies: 1, ..NONE };
const UNKNOWN: Dropped = Dropped { unknown: 1, ..NONE };

/// What a holder has on its device only.
fn on_device(holder: Holder, blocks: u32) -> Match {
    Match { holder, blocks, host: blocks, disk: blocks, predicted: blocks }
}

fn engine(number: u64) -> EngineHash {
    EngineHash(number)
}

/// Blocks of local hash n and engine hash n + `names`.
fn chain(local: impl IntoIterator<Item = u64>, names: u64) -> Vec<Block> {
    local.into_iter().map(|local| Block { local, engine: engine(local + names) }).collect()
}

/// Nodes, blocks of all holders, holders.
fn sizes(index: &Index) -> (usize, usize, usize) {
    let stats = index.stats();
    (stats.nodes, stats.holder_blocks, stats.holders)
}

fn overlap(index: &Index, holder: Holder, local: &[u64]) -> u32 {
    let found = index.find_matches(local);
    found.iter().find(|found| found.holder == holder).map_or(0, |found| found.blocks)
}

#[test]
fn a_stored_chain_matches_as_far_as_it_is_shared() {
    let index = Index::new();
    let stored = index.store(A, Tier::Device, None, 0, &chain(1..=4, 100)).unwrap();
    assert_eq!(stored, Stored { new: 4, ..Stored::default() });
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4, 5]), 4);
    assert_eq!(overlap(&index, A, &[1, 2, 9]), 2);
    assert!(index.find_matches(&[9]).is_empty());
    assert!(index.find_matches(&[]).is_empty());
    index.store(A, Tier::Device, Some(engine(102)), 0, &chain([7], 100)).unwrap();
    assert_eq!(overlap(&index, A, &[1, 2, 7]), 3);
    index.audit().unwrap();
}

#[test]
fn a_hole_cuts_the_credit_and_heals_when_the_block_is_stored_again() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain(1..=4, 100)).unwrap();
    assert_eq!(index.remove(A, Tier::Device, &[engine(102)]), LAST);
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4]), 1);
    assert_eq!(index.blocks(A, Tier::Device), 3);
    index.store(A, Tier::Device, Some(engine(101)), 0, &chain([2], 200)).unwrap();
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4]), 4);
    index.audit().unwrap();
}

#[test]
fn a_block_is_held_until_its_last_copy_goes() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain(1..=2, 0)).unwrap();
    let again = index.store(A, Tier::Device, Some(engine(1)), 0, &chain([2], 0)).unwrap();
    assert_eq!(again, Stored { copies: 1, ..Stored::default() });
    assert_eq!(index.remove(A, Tier::Device, &[engine(2)]), COPY);
    assert_eq!(overlap(&index, A, &[1, 2]), 2);
    assert_eq!(index.remove(A, Tier::Device, &[engine(2)]), LAST);
    assert_eq!(index.remove(A, Tier::Device, &[engine(2)]), UNKNOWN);
    assert_eq!(overlap(&index, A, &[1, 2]), 1);
}

#[test]
fn workers_may_name_the_same_content_differently() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain(1..=2, 100)).unwrap();
    index.store(B, Tier::Device, None, 0, &chain(1..=2, 200)).unwrap();
    index.store(B, Tier::Device, Some(engine(202)), 0, &chain([3], 200)).unwrap();
    assert_eq!(sizes(&index), (3, 5, 2));
    assert_eq!(overlap(&index, B, &[1, 2, 3]), 3);
    assert_eq!(index.remove(B, Tier::Device, &[engine(102)]), UNKNOWN);
    assert_eq!(index.remove(B, Tier::Device, &[engine(202)]), LAST);
    assert_eq!(overlap(&index, A, &[1, 2, 3]), 2);
    assert_eq!(overlap(&index, B, &[1, 2, 3]), 1);
    index.audit().unwrap();
}

#[test]
fn two_names_of_one_block_hold_it_until_both_are_gone() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain([1], 100)).unwrap();
    index.store(A, Tier::Device, None, 0, &chain([1], 200)).unwrap();
    assert_eq!(index.blocks(A, Tier::Device), 1);
    assert_eq!(index.remove(A, Tier::Device, &[engine(101)]), LAST);
    assert_eq!(overlap(&index, A, &[1]), 1);
    assert_eq!(index.remove(A, Tier::Device, &[engine(201)]), LAST);
    assert_eq!(sizes(&index), (0, 0, 0));
}

#[test]
fn an_engine_hash_that_turns_up_for_other_content_lets_go_of_the_old() {
    let index = Index::new();
    let block = |local| [Block { local, engine: engine(7) }];
    index.store(A, Tier::Device, None, 0, &block(1)).unwrap();
    index.store(A, Tier::Device, None, 0, &block(2)).unwrap();
    assert_eq!(overlap(&index, A, &[1]), 0);
    assert_eq!(overlap(&index, A, &[2]), 1);
    assert_eq!(index.stats().nodes, 1);
    index.audit().unwrap();
}

#[test]
fn a_store_in_error_changes_nothing() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain([1], 0)).unwrap();
    let before = index.stats();
    let own = index.store(A, Tier::Device, Some(engine(1)), 0, &chain([2, 1], 0));
    assert_eq!(own, Err(StoreError::SelfParent));
    assert_eq!(index.stats(), before);
}

#[test]
fn a_block_remembers_the_seed_it_was_stored_under() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 5, &chain([1], 0)).unwrap();
    assert_eq!(index.seed(A, engine(1)), Some(5));
    assert_eq!(index.seed(B, engine(1)), None);
}

#[test]
fn a_worker_goes_with_all_its_ranks_and_nobody_elses() {
    let index = Index::new();
    let second = Holder { rank: 1, ..A };
    for holder in [A, second, B] {
        index.store(holder, Tier::Device, None, 0, &chain(1..=3, 0)).unwrap();
    }
    assert_eq!(index.remove_worker(A.worker), 6);
    assert_eq!(index.find_matches(&[1, 2, 3]), [on_device(B, 3)]);
    assert_eq!(index.clear(B), 3);
    assert_eq!(sizes(&index), (0, 0, 0));
    index.audit().unwrap();
}
