//! Random histories against the naive model, audited after every step.

use proptest::prelude::*;

use super::naive::Naive;
use crate::*;

#[derive(Debug, Clone)]
enum Operation {
    Store { holder: usize, tier: Tier, parent: Option<u64>, names: u64, seed: u64, local: Vec<u64> },
    Hold { holder: usize, tier: Tier, engines: Vec<u64> },
    Remove { holder: usize, tier: Tier, engines: Vec<u64> },
    Clear { holder: usize },
    RemoveWorker { worker: u32 },
    Predict { holder: usize, local: Vec<u64>, expires: u64 },
    Expire { now: u64 },
}

const HOLDERS: [Holder; 4] = [
    Holder { worker: WorkerId(0), rank: 0 },
    Holder { worker: WorkerId(0), rank: 1 },
    Holder { worker: WorkerId(1), rank: 0 },
    Holder { worker: WorkerId(2), rank: 0 },
];

fn tier() -> impl Strategy<Value = Tier> {
    prop_oneof![6 => Just(Tier::Device), 2 => Just(Tier::Host), 1 => Just(Tier::Disk)]
}

/// Few holders, few local hashes, few names: collisions of every kind.
fn crowded() -> impl Strategy<Value = Operation> {
    let local = || prop::collection::vec(1u64..4, 0..5);
    let engines = || prop::collection::vec(0u64..16, 0..6);
    let parent = prop::option::of(0u64..16);
    prop_oneof![
        12 => (0usize..4, tier(), parent, 0u64..12, 0u64..3, local()).prop_map(
            |(holder, tier, parent, names, seed, local)| {
                Operation::Store { holder, tier, parent, names, seed, local }
            }
        ),
        3 => (0usize..4, tier(), engines())
            .prop_map(|(holder, tier, engines)| Operation::Hold { holder, tier, engines }),
        12 => (0usize..4, tier(), engines())
            .prop_map(|(holder, tier, engines)| Operation::Remove { holder, tier, engines }),
        1 => (0usize..4).prop_map(|holder| Operation::Clear { holder }),
        1 => (0u32..3).prop_map(|worker| Operation::RemoveWorker { worker }),
        3 => (0usize..4, local(), 1u64..9)
            .prop_map(|(holder, local, expires)| Operation::Predict { holder, local, expires }),
        1 => (0u64..9).prop_map(|now| Operation::Expire { now }),
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
            let tier = if odd == 3 { Tier::Host } else { Tier::Device };
            let which = if odd == 2 { which + 1 } else { which };
            let local = conversation(which, from, len);
            Operation::Store { holder, tier, parent, names, seed, local }
        }),
        3 => turn.clone().prop_map(|(holder, which, _, len, odd)| Operation::Store {
            holder,
            tier: if odd == 0 { Tier::Disk } else { Tier::Device },
            parent: None,
            names: which * 60,
            seed: u64::from(odd == 1),
            local: conversation(which, 0, len),
        }),
        1 => turn.clone().prop_map(|(holder, which, from, len, _)| Operation::Hold {
            holder,
            tier: Tier::Host,
            engines: (which * 60 + from..which * 60 + from + len).collect(),
        }),
        6 => turn.clone().prop_map(|(holder, which, from, len, odd)| {
            let names = which * 60 + from..which * 60 + from + len;
            let engines = if odd < 4 { names.collect() } else { names.rev().collect() };
            let tier = if odd % 5 == 0 { Tier::Host } else { Tier::Device };
            Operation::Remove { holder, tier, engines }
        }),
        3 => (0usize..4, 0u64..250).prop_map(|(holder, engine)| Operation::Remove {
            holder,
            tier: Tier::Device,
            engines: vec![engine],
        }),
        2 => turn.prop_map(|(holder, which, _, len, odd)| Operation::Predict {
            holder,
            local: conversation(which, 0, len),
            expires: 10 + odd,
        }),
        1 => (10u64..30).prop_map(|now| Operation::Expire { now }),
        1 => (0usize..8).prop_map(|holder| Operation::Clear { holder: holder.min(3) }),
    ]
}

fn names(engines: Vec<u64>) -> Vec<EngineHash> {
    engines.into_iter().map(EngineHash).collect()
}

fn apply(index: &Index, naive: &mut Naive, operation: Operation) -> Result<(), TestCaseError> {
    match operation {
        Operation::Store { holder, tier, parent, names, seed, local } => {
            let blocks: Vec<Block> = local
                .into_iter()
                .zip(names..)
                .map(|(local, number)| Block { local, engine: EngineHash(number) })
                .collect();
            let (holder, parent) = (HOLDERS[holder], parent.map(EngineHash));
            prop_assert_eq!(
                index.store(holder, tier, parent, seed, &blocks),
                naive.store(holder, tier, parent, seed, &blocks)
            );
        }
        Operation::Hold { holder, tier, engines } => {
            let (holder, engines) = (HOLDERS[holder], names(engines));
            prop_assert_eq!(index.hold(holder, tier, &engines), naive.hold(holder, tier, &engines));
        }
        Operation::Remove { holder, tier, engines } => {
            let (holder, engines) = (HOLDERS[holder], names(engines));
            prop_assert_eq!(
                index.remove(holder, tier, &engines),
                naive.remove(holder, tier, &engines)
            );
        }
        Operation::Clear { holder } => {
            prop_assert_eq!(index.clear(HOLDERS[holder]), naive.clear(HOLDERS[holder]));
        }
        Operation::RemoveWorker { worker } => prop_assert_eq!(
            index.remove_worker(WorkerId(worker)),
            naive.remove_worker(WorkerId(worker))
        ),
        Operation::Predict { holder, local, expires } => prop_assert_eq!(
            index.predict(HOLDERS[holder], &local, expires),
            naive.predict(HOLDERS[holder], &local, expires)
        ),
        Operation::Expire { now } => {
            index.expire(now);
            naive.expire(now);
        }
    }
    Ok(())
}

fn agree(
    history: Vec<Operation>,
    queries: &[Vec<u64>],
    names: std::ops::Range<u64>,
) -> Result<(), TestCaseError> {
    let (index, mut naive) = (Index::new(), Naive::default());
    for operation in history {
        apply(&index, &mut naive, operation)?;
        prop_assert_eq!(index.audit(), Ok(()));
        for query in queries {
            let mut found = index.find_matches(query);
            found.sort_unstable();
            prop_assert_eq!(found, naive.find_matches(query));
        }
        for holder in HOLDERS {
            for tier in Tier::ALL {
                prop_assert_eq!(index.blocks(holder, tier), naive.blocks(holder, tier));
            }
            for name in names.clone().map(EngineHash) {
                prop_assert_eq!(index.seed(holder, name), naive.seed(holder, name));
            }
        }
        let stats = index.stats();
        prop_assert_eq!((stats.nodes, stats.holders), (naive.nodes(), naive.holders()));
        prop_assert_eq!((stats.aside, stats.lost as usize), (naive.waiting(), naive.lost));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_history_passes_the_ceiling(
        history in prop::collection::vec((lifelike(), 1u64..40), 1..80),
        ceiling in (96usize..400).prop_map(|kilobytes| kilobytes << 10),
    ) {
        let (index, mut naive) = (Index::with_ceiling(ceiling), Naive::default());
        for (number, (operation, times)) in history.into_iter().enumerate() {
            // The same again as other content, so that the ceiling comes into sight.
            for other in 0..times {
                let shift = (number as u64 * 64 + other) * 1_000_000;
                if let Operation::Store { holder, tier, parent: None, local, .. } = &operation {
                    let block = |local: &u64| Block {
                        local: local + shift,
                        engine: EngineHash(local + shift),
                    };
                    let blocks: Vec<Block> = local.iter().map(block).collect();
                    let _ = index.store(HOLDERS[*holder], *tier, None, 0, &blocks);
                    prop_assert!(index.stats().bytes <= ceiling);
                }
            }
            // Only what it does matters here: what was evicted, the model still has.
            let _ = apply(&index, &mut naive, operation);
            prop_assert_eq!(index.audit(), Ok(()));
            prop_assert!(index.stats().bytes <= ceiling, "{:?} of {ceiling}", index.stats());
        }
    }
}
