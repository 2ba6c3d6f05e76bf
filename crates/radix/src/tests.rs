//! What the index promises, case by case, and against a naive model.

mod histories;
mod naive;
mod table;
mod threads;

use super::*;

const A: Holder = Holder { worker: WorkerId(1), rank: 0 };
const B: Holder = Holder { worker: WorkerId(2), rank: 0 };

fn engine(number: u64) -> EngineHash {
    EngineHash::Int(number)
}

/// Blocks of local hash n and engine hash n + `names`.
fn chain(local: impl IntoIterator<Item = u64>, names: u64) -> Vec<Block> {
    local.into_iter().map(|local| Block { local, engine: engine(local + names) }).collect()
}

fn overlap(index: &Index, holder: Holder, local: &[u64]) -> u32 {
    let found = index.find_matches(local);
    found.iter().find(|found| found.holder == holder).map_or(0, |found| found.blocks)
}

#[test]
fn a_stored_chain_matches_as_far_as_it_is_shared() {
    let index = Index::new();
    let stored = index.store(A, None, 0, &chain(1..=4, 100)).unwrap();
    assert_eq!(stored, Stored { new: 4, copies: 0 });
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4, 5]), 4);
    assert_eq!(overlap(&index, A, &[1, 2, 9]), 2);
    assert!(index.find_matches(&[9]).is_empty());
    assert!(index.find_matches(&[]).is_empty());
    index.store(A, Some(engine(102)), 0, &chain([7], 100)).unwrap();
    assert_eq!(overlap(&index, A, &[1, 2, 7]), 3);
    index.audit().unwrap();
}

#[test]
fn a_hole_cuts_the_credit_and_heals_when_the_block_is_stored_again() {
    let index = Index::new();
    index.store(A, None, 0, &chain(1..=4, 100)).unwrap();
    assert_eq!(index.remove(A, &engine(102)), Removed::Last);
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4]), 1);
    assert_eq!(index.blocks(A), 3);
    index.store(A, Some(engine(101)), 0, &chain([2], 200)).unwrap();
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4]), 4);
    index.audit().unwrap();
}

#[test]
fn a_block_is_held_until_its_last_copy_goes() {
    let index = Index::new();
    index.store(A, None, 0, &chain(1..=2, 0)).unwrap();
    let again = index.store(A, Some(engine(1)), 0, &chain([2], 0)).unwrap();
    assert_eq!(again, Stored { new: 0, copies: 1 });
    assert_eq!(index.remove(A, &engine(2)), Removed::Copy);
    assert_eq!(overlap(&index, A, &[1, 2]), 2);
    assert_eq!(index.remove(A, &engine(2)), Removed::Last);
    assert_eq!(index.remove(A, &engine(2)), Removed::Unknown);
    assert_eq!(overlap(&index, A, &[1, 2]), 1);
}

#[test]
fn workers_may_name_the_same_content_differently() {
    let index = Index::new();
    index.store(A, None, 0, &chain(1..=2, 100)).unwrap();
    index.store(B, None, 0, &chain(1..=2, 200)).unwrap();
    index.store(B, Some(engine(202)), 0, &chain([3], 200)).unwrap();
    assert_eq!(index.stats(), Stats { nodes: 3, holder_blocks: 5, holders: 2 });
    assert_eq!(overlap(&index, B, &[1, 2, 3]), 3);
    assert_eq!(index.remove(B, &engine(102)), Removed::Unknown);
    assert_eq!(index.remove(B, &engine(202)), Removed::Last);
    assert_eq!(overlap(&index, A, &[1, 2, 3]), 2);
    assert_eq!(overlap(&index, B, &[1, 2, 3]), 1);
    index.audit().unwrap();
}

#[test]
fn two_names_of_one_block_hold_it_until_both_are_gone() {
    let index = Index::new();
    index.store(A, None, 0, &chain([1], 100)).unwrap();
    index.store(A, None, 0, &chain([1], 200)).unwrap();
    assert_eq!(index.blocks(A), 1);
    assert_eq!(index.remove(A, &engine(101)), Removed::Last);
    assert_eq!(overlap(&index, A, &[1]), 1);
    assert_eq!(index.remove(A, &engine(201)), Removed::Last);
    assert_eq!(index.stats(), Stats::default());
}

#[test]
fn an_engine_hash_that_turns_up_for_other_content_lets_go_of_the_old() {
    let index = Index::new();
    let block = |local| [Block { local, engine: engine(7) }];
    index.store(A, None, 0, &block(1)).unwrap();
    index.store(A, None, 0, &block(2)).unwrap();
    assert_eq!(overlap(&index, A, &[1]), 0);
    assert_eq!(overlap(&index, A, &[2]), 1);
    assert_eq!(index.stats().nodes, 1);
    index.audit().unwrap();
}

#[test]
fn a_store_in_error_changes_nothing() {
    let index = Index::new();
    index.store(A, None, 0, &chain([1], 0)).unwrap();
    let before = index.stats();
    let unknown = index.store(A, Some(engine(9)), 0, &chain([2], 0));
    assert_eq!(unknown, Err(StoreError::UnknownParent));
    assert_eq!(index.store(B, Some(engine(1)), 0, &[]), Err(StoreError::UnknownParent));
    let own = index.store(A, Some(engine(1)), 0, &chain([2, 1], 0));
    assert_eq!(own, Err(StoreError::SelfParent));
    assert_eq!(index.stats(), before);
}

#[test]
fn a_block_remembers_the_seed_it_was_stored_under() {
    let index = Index::new();
    index.store(A, None, 5, &chain([1], 0)).unwrap();
    assert_eq!(index.seed(A, &engine(1)), Some(5));
    assert_eq!(index.seed(B, &engine(1)), None);
}

#[test]
fn a_worker_goes_with_all_its_ranks_and_nobody_elses() {
    let index = Index::new();
    let second = Holder { rank: 1, ..A };
    for holder in [A, second, B] {
        index.store(holder, None, 0, &chain(1..=3, 0)).unwrap();
    }
    assert_eq!(index.remove_worker(A.worker), 6);
    let left = Match { holder: B, blocks: 3 };
    assert_eq!(index.find_matches(&[1, 2, 3]), [left]);
    assert_eq!(index.clear(B), 3);
    assert_eq!(index.stats(), Stats::default());
    index.audit().unwrap();
}
