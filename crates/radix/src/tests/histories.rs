//! Random histories against the naive model, audited after every step.

use proptest::prelude::*;

use super::naive::Naive;
use crate::*;

#[derive(Debug, Clone)]
enum Operation {
    Store { holder: usize, parent: Option<u64>, names: u64, seed: u64, local: Vec<u64> },
    Remove { holder: usize, engine: u64 },
    RemoveMany { holder: usize, engines: Vec<u64> },
    Clear { holder: usize },
    RemoveWorker { worker: u32 },
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

/// Few holders, few local hashes, few names: collisions of every kind.
fn crowded() -> impl Strategy<Value = Operation> {
    let local = prop::collection::vec(1u64..4, 0..5);
    prop_oneof![
        6 => (0usize..4, prop::option::of(0u64..16), 0u64..12, 0u64..3, local).prop_map(
            |(holder, parent, names, seed, local)| {
                Operation::Store { holder, parent, names, seed, local }
            }
        ),
        5 => (0usize..4, 0u64..16).prop_map(|(holder, engine)| Operation::Remove { holder, engine }),
        2 => (0usize..4, prop::collection::vec(0u64..16, 0..6))
            .prop_map(|(holder, engines)| Operation::RemoveMany { holder, engines }),
        1 => (0usize..4).prop_map(|holder| Operation::Clear { holder }),
        1 => (0u32..3).prop_map(|worker| Operation::RemoveWorker { worker }),
    ]
}

/// Blocks of a conversation; two of them run together up to a multiple of 25.
fn conversation(which: u64, from: u64, len: u64) -> Vec<u64> {
    (from..from + len).map(|at| at + 1000 * which.min(at / 25)).collect()
}

/// What engines do: long chains that share their beginnings, go on where they
/// ended, part in the middle, and go tail first, or not.
fn lifelike() -> impl Strategy<Value = Operation> {
    let turn = (0usize..4, 0u64..4, 0u64..70, 0u64..70, 0u64..20);
    prop_oneof![
        4 => turn.clone().prop_map(|(holder, which, from, len, odd)| {
            // One name for one content, but for the odd one that is out of line.
            let names = which * 60 + from + u64::from(odd == 0);
            let parent = from.checked_sub(1).map(|above| which * 60 + above);
            let seed = u64::from(odd == 1);
            let which = if odd == 2 { which + 1 } else { which };
            Operation::Store { holder, parent, names, seed, local: conversation(which, from, len) }
        }),
        3 => turn.clone().prop_map(|(holder, which, _, len, odd)| Operation::Store {
            holder,
            parent: None,
            names: which * 60,
            seed: u64::from(odd == 1),
            local: conversation(which, 0, len),
        }),
        5 => turn.prop_map(|(holder, which, from, len, odd)| {
            let names = which * 60 + from..which * 60 + from + len;
            let engines = if odd < 4 { names.collect() } else { names.rev().collect() };
            Operation::RemoveMany { holder, engines }
        }),
        3 => (0usize..4, 0u64..250)
            .prop_map(|(holder, engine)| Operation::Remove { holder, engine }),
        1 => (0usize..8).prop_map(|holder| Operation::Clear { holder: holder.min(3) }),
    ]
}

fn agree(
    history: Vec<Operation>,
    queries: &[Vec<u64>],
    names: std::ops::Range<u64>,
) -> Result<(), TestCaseError> {
    let (index, mut naive) = (Index::new(), Naive::default());
    for operation in history {
        match operation {
            Operation::Store { holder, parent, names, seed, local } => {
                let blocks: Vec<Block> = local
                    .into_iter()
                    .zip(names..)
                    .map(|(local, number)| Block { local, engine: name(number) })
                    .collect();
                let (holder, parent) = (HOLDERS[holder], parent.map(name));
                prop_assert_eq!(
                    index.store(holder, parent, seed, &blocks),
                    naive.store(holder, parent, seed, &blocks)
                );
            }
            Operation::Remove { holder, engine } => prop_assert_eq!(
                index.remove(HOLDERS[holder], &name(engine)),
                naive.remove(HOLDERS[holder], &name(engine))
            ),
            Operation::RemoveMany { holder, engines } => {
                let engines: Vec<EngineHash> = engines.into_iter().map(name).collect();
                let mut expected = Dropped::default();
                for engine in &engines {
                    expected.count(naive.remove(HOLDERS[holder], engine));
                }
                prop_assert_eq!(index.remove_many(HOLDERS[holder], &engines), expected);
            }
            Operation::Clear { holder } => {
                prop_assert_eq!(index.clear(HOLDERS[holder]), naive.clear(HOLDERS[holder]));
            }
            Operation::RemoveWorker { worker } => prop_assert_eq!(
                index.remove_worker(WorkerId(worker)),
                naive.remove_worker(WorkerId(worker))
            ),
        }
        prop_assert_eq!(index.audit(), Ok(()));
        for query in queries {
            prop_assert_eq!(index.find_matches(query), naive.find_matches(query));
        }
        for holder in HOLDERS {
            prop_assert_eq!(index.blocks(holder), naive.blocks(holder));
            for number in names.clone() {
                let name = name(number);
                prop_assert_eq!(index.seed(holder, &name), naive.seed(holder, &name));
            }
        }
        let stats = index.stats();
        prop_assert_eq!((stats.nodes, stats.holders), (naive.nodes(), naive.holders()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_history_leaves_what_the_naive_model_has(
        history in prop::collection::vec(crowded(), 1..60),
        queries in prop::collection::vec(prop::collection::vec(1u64..4, 0..7), 6),
    ) {
        agree(history, &queries, 0..16)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn long_chains_that_part_and_meet_leave_what_the_naive_model_has(
        history in prop::collection::vec(lifelike(), 1..40),
    ) {
        let queries: Vec<Vec<u64>> = (0..5).map(|which| conversation(which, 0, 140)).collect();
        agree(history, &queries, 0..250)?;
    }
}
