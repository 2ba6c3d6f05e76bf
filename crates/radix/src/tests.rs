//! What the index promises, case by case, and against a naive model.

mod naive;

use proptest::prelude::*;

use super::*;
use naive::Naive;

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

#[derive(Debug, Clone)]
enum Operation {
    Store { holder: usize, parent: Option<u64>, names: u64, local: Vec<u64> },
    Remove { holder: usize, engine: u64 },
    Clear { holder: usize },
    RemoveWorker { worker: u32 },
}

/// Few holders, few local hashes, few names: collisions of every kind.
fn operation() -> impl Strategy<Value = Operation> {
    let local = prop::collection::vec(1u64..4, 0..5);
    prop_oneof![
        6 => (0usize..4, prop::option::of(0u64..16), 0u64..12, local).prop_map(
            |(holder, parent, names, local)| Operation::Store { holder, parent, names, local }
        ),
        5 => (0usize..4, 0u64..16).prop_map(|(holder, engine)| Operation::Remove { holder, engine }),
        1 => (0usize..4).prop_map(|holder| Operation::Clear { holder }),
        1 => (0u32..3).prop_map(|worker| Operation::RemoveWorker { worker }),
    ]
}

const HOLDERS: [Holder; 4] = [
    Holder { worker: WorkerId(0), rank: 0 },
    Holder { worker: WorkerId(0), rank: 1 },
    Holder { worker: WorkerId(1), rank: 0 },
    Holder { worker: WorkerId(2), rank: 0 },
];

/// Integers and digests alike, and the same number in both is two names.
fn name(number: u64) -> EngineHash {
    match number % 3 {
        0 => EngineHash::Bytes([number as u8; 32]),
        _ => EngineHash::Int(number),
    }
}

proptest! {
    #[test]
    fn any_history_leaves_what_the_naive_model_has(
        history in prop::collection::vec(operation(), 1..60),
        queries in prop::collection::vec(prop::collection::vec(1u64..4, 0..7), 6),
    ) {
        let (index, mut naive) = (Index::new(), Naive::default());
        for (step, operation) in history.into_iter().enumerate() {
            match operation {
                Operation::Store { holder, parent, names, local } => {
                    let blocks: Vec<Block> = local
                        .into_iter()
                        .zip(names..)
                        .map(|(local, number)| Block { local, engine: name(number) })
                        .collect();
                    let (holder, parent, seed) = (HOLDERS[holder], parent.map(name), step as u64);
                    prop_assert_eq!(
                        index.store(holder, parent, seed, &blocks),
                        naive.store(holder, parent, seed, &blocks)
                    );
                }
                Operation::Remove { holder, engine } => prop_assert_eq!(
                    index.remove(HOLDERS[holder], &name(engine)),
                    naive.remove(HOLDERS[holder], &name(engine))
                ),
                Operation::Clear { holder } => {
                    prop_assert_eq!(index.clear(HOLDERS[holder]), naive.clear(HOLDERS[holder]));
                }
                Operation::RemoveWorker { worker } => prop_assert_eq!(
                    index.remove_worker(WorkerId(worker)),
                    naive.remove_worker(WorkerId(worker))
                ),
            }
            prop_assert_eq!(index.audit(), Ok(()));
            for query in &queries {
                prop_assert_eq!(index.find_matches(query), naive.find_matches(query));
            }
            for holder in HOLDERS {
                prop_assert_eq!(index.blocks(holder), naive.blocks(holder));
                for number in 0..16 {
                    let name = name(number);
                    prop_assert_eq!(index.seed(holder, &name), naive.seed(holder, &name));
                }
            }
            let stats = index.stats();
            prop_assert_eq!((stats.nodes, stats.holders), (naive.nodes(), naive.holders()));
        }
    }
}
