//! What is written out comes back as it was, and damage is told.

use proptest::prelude::*;

use super::{A, B, chain, engine};
use crate::*;

/// Everything of one index, by what it answers.
fn state(index: &Index, queries: &[Vec<u64>]) -> (Vec<Vec<Match>>, Vec<[usize; 3]>) {
    let answers = queries.iter().map(|query| {
        let mut found = index.find_matches(query);
        found.sort_unstable();
        found
    });
    let blocks = [A, B].map(|holder| Tier::ALL.map(|tier| index.blocks(holder, tier)));
    (answers.collect(), blocks.to_vec())
}

fn queries() -> Vec<Vec<u64>> {
    let shared = |tail: &[u64]| (1..=40).chain(tail.iter().copied()).collect();
    vec![shared(&[]), shared(&[50, 51, 52]), shared(&[60]), (1..=5).collect(), vec![70, 71, 72]]
}

/// Holes, second names, copies, seeds of their own, tiers, shared and split chains.
fn example() -> Index {
    let index = Index::new();
    let store = |holder, tier, parent: Option<u64>, seed, blocks: &[Block]| {
        index.store(holder, tier, parent.map(engine), seed, blocks).unwrap();
    };
    store(A, Tier::Device, None, 3, &chain(1..=40, 100));
    store(A, Tier::Device, Some(140), 3, &chain(50..=52, 100));
    store(B, Tier::Device, None, 4, &chain(1..=40, 500));
    store(B, Tier::Device, Some(540), 4, &chain([60], 500));
    store(A, Tier::Host, Some(140), 3, &chain([50], 900));
    store(A, Tier::Disk, None, 3, &chain([70, 71, 72], 0));
    store(A, Tier::Device, Some(109), 3, &chain([10], 800));
    store(A, Tier::Device, Some(109), 3, &chain([10], 800));
    index.remove(B, Tier::Device, &[engine(505), engine(520)]);
    index
}

fn snapshot(index: &Index) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.snapshot(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_snapshot_brings_back_what_there_was() {
    let index = example();
    let (bytes, other) = (snapshot(&index), Index::new());
    let restored = other.restore(&bytes[..], Some).unwrap();
    assert_eq!((restored.sections, restored.skipped), (4, 0));
    other.audit().unwrap();
    assert_eq!(state(&other, &queries()), state(&index, &queries()));
    assert_eq!(other.stats().nodes, index.stats().nodes);
    for (holder, name) in [(A, 150), (A, 110), (A, 810), (B, 501), (B, 560)] {
        assert_eq!(other.seed(holder, engine(name)), index.seed(holder, engine(name)));
    }
    for (name, copies) in [(810, 2), (110, 1)] {
        for _ in 1..copies {
            assert_eq!(other.remove(A, Tier::Device, &[engine(name)]).copies, 1, "{name}");
        }
        assert_eq!(other.remove(A, Tier::Device, &[engine(name)]).last, 1, "{name}");
    }
    other.audit().unwrap();
}

#[test]
fn holders_that_events_told_of_or_nobody_wants_are_left_alone() {
    let (bytes, other) = (snapshot(&example()), Index::new());
    other.store(B, Tier::Device, None, 0, &chain([9], 0)).unwrap();
    let third = Holder { worker: WorkerId(9), rank: 0 };
    let whose = |holder| match holder {
        A => Some(third),
        other => Some(other),
    };
    let restored = other.restore(&bytes[..], whose).unwrap();
    assert_eq!((restored.sections, restored.skipped), (3, 1));
    assert_eq!((other.blocks(B, Tier::Device), other.blocks(third, Tier::Device)), (1, 43));
    let nobody = Index::new();
    assert_eq!(nobody.restore(&bytes[..], |_| None).unwrap().skipped, 4);
    assert_eq!(nobody.stats().holders, 0);
}

#[test]
fn a_dump_replayed_gives_the_same_answers() {
    let index = example();
    let other = Index::new();
    for holder in index.holders() {
        for chain in index.dump(holder) {
            let stored = other.store(holder, chain.tier, chain.parent, 0, &chain.blocks).unwrap();
            assert_eq!(stored.aside, 0, "parents come first");
        }
    }
    assert_eq!(state(&other, &queries()).0, state(&index, &queries()).0);
    other.audit().unwrap();
}

#[test]
fn a_dump_tells_where_in_the_prompt_a_chain_begins() {
    let index = example();
    let chains = index.dump(A);
    assert!(chains.len() <= 5, "chains are told of in one piece: {chains:?}");
    let found = chains.iter().find(|chain| chain.parent == Some(engine(140)));
    assert_eq!(found.map(|chain| (chain.start, chain.blocks[0].local)), Some((40, 50)));
    assert!(index.dump(Holder { worker: WorkerId(77), rank: 0 }).is_empty());
}

proptest! {
    #[test]
    fn no_damage_to_a_snapshot_does_harm(
        cuts in prop::collection::vec((0usize..10_000, any::<u8>()), 0..4),
        end in 0usize..12_000,
    ) {
        let mut bytes = snapshot(&example());
        let whole = bytes.clone();
        for (at, byte) in cuts {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(end);
        let index = Index::with_ceiling(1 << 24);
        let read = index.restore(&bytes[..], Some);
        prop_assert_eq!(read.is_ok(), bytes == whole);
        prop_assert_eq!(index.audit(), Ok(()));
    }

    #[test]
    fn no_numbers_under_a_right_checksum_do_harm(payload in prop::collection::vec(0u8..4, 0..200)) {
        let mut section = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        section.extend((payload.len() as u64).to_le_bytes());
        section.extend(payload);
        let checksum = xxhash_rust::xxh3::xxh3_64(&section).to_le_bytes();
        let mut bytes = b"WPRX\x01\0\0\0".to_vec();
        bytes.extend(section);
        bytes.extend(checksum);
        bytes.extend([0, 1, 0, 0, 0]);
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&checksum).to_le_bytes());
        let index = Index::new();
        let _ = index.restore(&bytes[..], Some);
        prop_assert_eq!(index.audit(), Ok(()));
    }
}

#[test]
fn what_is_no_snapshot_is_told_so() {
    let read = |bytes: &[u8]| Index::new().restore(bytes, Some).unwrap_err().to_string();
    assert_eq!(read(b"{\"not\": 1}"), "not a snapshot of an index");
    assert!(read(b"WPRX\x09\0\0\0").contains("version 9"));
    assert!(read(b"WPRX\x01\0\0\0\x01\0\0").contains("could not be read"));
    let huge = [&b"WPRX\x01\0\0\0\x01"[..], &[0; 9], &[0xff; 8]].concat();
    assert!(read(&huge).contains("could not be read"));
}
