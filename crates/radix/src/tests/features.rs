//! What is beside the plain life of a block: orphans, tiers, predictions, queries that
//! stop early, many queries at once.

use super::{A, B, LAST, chain, engine, on_device, overlap};
use crate::*;

#[test]
fn a_chain_waits_for_its_parent_and_so_do_those_behind_it() {
    let index = Index::new();
    let behind = index.store(A, Tier::Device, Some(engine(4)), 0, &chain([5], 0)).unwrap();
    assert_eq!(behind, Stored { aside: 1, ..Stored::default() });
    index.store(A, Tier::Device, Some(engine(2)), 0, &chain([3, 4], 0)).unwrap();
    assert_eq!((index.stats().aside, overlap(&index, A, &[1])), (3, 0));
    index.audit().unwrap();
    index.store(A, Tier::Device, None, 0, &chain([1, 2], 0)).unwrap();
    assert_eq!((index.stats().aside, overlap(&index, A, &[1, 2, 3, 4, 5])), (0, 5));
    assert_eq!(index.stats().lost, 0);
    index.audit().unwrap();
}

#[test]
fn a_waiting_block_that_is_removed_is_a_hole_when_its_parent_comes() {
    let index = Index::new();
    index.store(A, Tier::Device, Some(engine(1)), 0, &chain(2..=4, 0)).unwrap();
    let removed = index.remove(A, Tier::Device, &[engine(3)]);
    assert_eq!(removed, Dropped { aside: 1, ..Dropped::default() });
    index.store(A, Tier::Device, None, 0, &chain([1], 0)).unwrap();
    assert_eq!(overlap(&index, A, &[1, 2, 3, 4]), 2);
    assert_eq!(index.blocks(A, Tier::Device), 3);
    index.audit().unwrap();
}

#[test]
fn what_waits_for_a_parent_of_another_seed_is_lost_and_counted() {
    let index = Index::new();
    index.store(A, Tier::Device, Some(engine(1)), 7, &chain(2..=4, 0)).unwrap();
    index.store(A, Tier::Device, None, 8, &chain([1], 0)).unwrap();
    assert_eq!((index.stats().lost, index.stats().aside), (3, 0));
    assert_eq!(overlap(&index, A, &[1, 2]), 1);
}

#[test]
fn orphans_are_bounded_and_the_oldest_go_first() {
    let index = Index::new();
    for orphan in 0..300 {
        let parent = Some(engine(1_000_000 + orphan));
        index.store(A, Tier::Device, parent, 0, &chain([orphan + 1], 0)).unwrap();
    }
    let long = chain(1..=9_000, 500);
    index.store(A, Tier::Device, Some(engine(400_000)), 0, &long).unwrap();
    let stats = index.stats();
    assert_eq!(stats.aside as u64 + stats.lost, 300 + 9_000);
    assert!(stats.aside <= 128, "{stats:?}");
    index.store(A, Tier::Device, None, 0, &chain([1_000_299], 0)).unwrap();
    assert_eq!(overlap(&index, A, &[1_000_299, 300]), 2, "the newest orphan is still there");
    index.audit().unwrap();
}

#[test]
fn each_tier_goes_on_where_the_faster_one_ends() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain(1..=2, 0)).unwrap();
    index.store(A, Tier::Host, Some(engine(2)), 0, &chain(3..=5, 0)).unwrap();
    assert_eq!(index.hold(A, Tier::Host, &[engine(1), engine(77)]).new, 1);
    index.store(A, Tier::Disk, None, 0, &chain(1..=8, 0)).unwrap();
    index.store(B, Tier::Disk, None, 0, &chain(1..=3, 0)).unwrap();
    let mut found = index.find_matches(&[1, 2, 3, 4, 5, 6, 7, 8]);
    found.sort_unstable();
    let on_a = Match { holder: A, blocks: 2, host: 5, disk: 8, predicted: 2 };
    let on_b = Match { holder: B, blocks: 0, host: 0, disk: 3, predicted: 0 };
    assert_eq!(found, [on_a, on_b]);
    assert_eq!(index.remove(A, Tier::Host, &[engine(4)]), LAST);
    assert_eq!(index.find_matches(&[1, 2, 3, 4, 5])[0].host, 3);
    assert_eq!(index.blocks(A, Tier::Disk), 8);
    assert_eq!(index.clear(A), 2 + 3 + 8);
    index.audit().unwrap();
}

#[test]
fn a_prediction_counts_until_it_comes_or_expires() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain(1..=2, 0)).unwrap();
    assert_eq!(index.predict(A, &[1, 2, 3, 4], 10), 2);
    assert_eq!(index.predict(B, &[1, 2, 9], 20), 3);
    let found = |query: &[u64]| {
        let mut found = index.find_matches(query);
        found.sort_unstable();
        found.iter().map(|found| (found.blocks, found.predicted)).collect::<Vec<_>>()
    };
    assert_eq!(found(&[1, 2, 3, 4, 5]), [(2, 4), (0, 2)]);
    index.audit().unwrap();
    index.store(A, Tier::Device, Some(engine(2)), 0, &chain([3], 0)).unwrap();
    assert_eq!(found(&[1, 2, 3, 4]), [(3, 4), (0, 2)]);
    index.expire(10);
    assert_eq!(found(&[1, 2, 3, 4]), [(3, 3), (0, 2)]);
    index.audit().unwrap();
    index.expire(20);
    assert_eq!(index.find_matches(&[1, 2, 9]), [on_device(A, 2)]);
    assert_eq!(index.stats().nodes, 3);
    index.audit().unwrap();
}

#[test]
fn a_later_prediction_prolongs_an_earlier_one() {
    let index = Index::new();
    index.predict(A, &[1, 2, 3], 10);
    index.predict(A, &[1, 2], 30);
    index.predict(A, &[1, 2, 3], 5);
    index.expire(29);
    assert_eq!(index.find_matches(&[1, 2, 3])[0].predicted, 2);
    index.audit().unwrap();
    index.expire(30);
    assert_eq!(index.stats().nodes, 0);
}

#[test]
fn predictions_beyond_a_capacity_go_oldest_first_and_from_the_end_of_a_chain() {
    let index = Index::new();
    let long: Vec<u64> = (1..=200).collect();
    index.predict(A, &long, 10);
    index.predict(A, &[1000, 1001], 20);
    assert_eq!((index.predicted(A), index.trim_predicted(A, 202)), (202, 0));
    let gone = index.trim_predicted(A, 100);
    assert_eq!(index.predicted(A), 202 - gone);
    assert!((102..102 + 32).contains(&gone), "whole chunks: {gone}");
    assert_eq!(index.find_matches(&long)[0].predicted as usize, 200 - gone, "the head stays");
    assert_eq!(index.find_matches(&[1000, 1001])[0].predicted, 2);
    index.audit().unwrap();
    // What was asked for again is the youngest.
    index.predict(A, &long[..10], 30);
    index.trim_predicted(A, 20);
    assert_eq!(index.find_matches(&long)[0].predicted, 10);
    index.audit().unwrap();
    assert_eq!((index.trim_predicted(A, 0), index.trim_predicted(B, 0)), (12, 0));
    assert_eq!((index.stats().nodes, index.predicted(A)), (0, 0));
    index.audit().unwrap();
}

#[test]
fn a_prediction_is_counted_once_however_often_it_is_made() {
    let index = Index::new();
    index.predict(A, &[1, 2, 3], 10);
    index.predict(A, &[1, 2, 3, 4], 20);
    index.predict(A, &[1, 2], 5);
    assert_eq!(index.predicted(A), 4);
    index.store(A, Tier::Device, None, 0, &chain([1], 0)).unwrap();
    assert_eq!(index.predicted(A), 3);
    index.expire(10);
    assert_eq!(index.predicted(A), 3, "prolonged");
    index.clear(A);
    assert_eq!(index.predicted(A), 0);
}

#[test]
fn a_query_stops_where_the_caller_has_enough() {
    let index = Index::new();
    let blocks = chain(1..=100, 0);
    index.store(A, Tier::Device, None, 0, &blocks).unwrap();
    index.store(B, Tier::Device, None, 0, &blocks[..40]).unwrap();
    index.store(B, Tier::Device, Some(engine(40)), 0, &chain([777], 0)).unwrap();
    let query: Vec<u64> = (1..=100).collect();
    let (mut matches, mut asked) = (Matches::new(), Vec::new());
    let enough = |progress: Progress| {
        asked.push((progress.blocks, progress.holders));
        progress.blocks >= 30
    };
    index.find(&query, enough, &mut matches);
    assert_eq!(asked, [(40, 2)]);
    assert_eq!(matches.len(), 2);
    assert!(matches.iter().all(|found| found.blocks == 40));
    index.find(&query, |_| false, &mut matches);
    assert_eq!(matches.iter().map(|found| found.blocks).max(), Some(100));
}

#[test]
fn many_queries_at_once_have_the_answers_of_each() {
    let index = Index::new();
    index.store(A, Tier::Device, None, 0, &chain(1..=70, 0)).unwrap();
    let queries: Vec<Vec<u64>> = (0..40).map(|end| (1..end).collect()).collect();
    let queries: Vec<&[u64]> = queries.iter().map(Vec::as_slice).collect();
    let mut matches = Vec::new();
    index.find_many(&queries, &mut matches);
    assert_eq!(matches.len(), queries.len());
    for (query, matches) in queries.iter().zip(&matches) {
        assert_eq!(matches.iter().collect::<Vec<_>>(), index.find_matches(query));
    }
}

#[test]
fn digests_of_any_length_are_names_and_those_of_32_bytes_are_vllms_integers() {
    let mut digest = [7; 32];
    digest[24..].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
    assert_eq!(EngineHash::from_bytes(&digest), EngineHash(0x0102_0304_0506_0708));
    let lengths: std::collections::HashSet<_> =
        (0..80).map(|len| EngineHash::from_bytes(&vec![0; len])).collect();
    assert!(lengths.len() >= 79, "lengths tell apart what bytes do not");
    assert_ne!(EngineHash::from_bytes(b"00aa11bb22cc"), EngineHash::from_bytes(b"00aa11bb22cd"));
}
