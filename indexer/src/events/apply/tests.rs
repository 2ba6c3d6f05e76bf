//! What of an event reaches the index, and under which hashes.

use super::*;
use crate::events::testing::Item::{self, Bin, Int, List, Map, Nil, Text, Uint};
use crate::events::testing::{batch, local, removed, source, stored};
use crate::events::wire::Batch;
use warmpath_blocks::SEED;

struct Stage {
    index: Arc<Index>,
    writer: Writer,
    counts: RankSnapshot,
}

impl Stage {
    fn new() -> Self {
        let index = Arc::new(Index::new());
        let writer = Writer::new(index.clone(), None);
        Self { index, writer, counts: RankSnapshot::default() }
    }

    fn apply(&mut self, event: Vec<(&'static str, Item)>) -> &mut Self {
        let payload = batch(vec![Map(event)]);
        for event in Batch::decode(&payload).unwrap().events() {
            self.writer.apply(source().holder, event.unwrap(), &mut self.counts);
        }
        self
    }

    fn overlap(&self, blocks: &[u64], seed: u64) -> u32 {
        self.index.find_matches(&local(blocks, seed)).first().map_or(0, |found| found.blocks)
    }

    fn rejected(&self) -> Vec<(&'static str, u64)> {
        self.counts.rejected.clone().into_iter().collect()
    }

    fn ignored(&self) -> Vec<(&'static str, u64)> {
        self.counts.ignored.clone().into_iter().collect()
    }
}

fn with(
    mut event: Vec<(&'static str, Item)>,
    name: &'static str,
    value: Item,
) -> Vec<(&'static str, Item)> {
    event.retain(|(known, _)| *known != name);
    event.push((name, value));
    event
}

#[test]
fn tokens_are_hashed_as_a_requests_are() {
    let mut stage = Stage::new();
    stage.apply(stored(None, &[1, 2])).apply(stored(Some(2), &[3]));
    assert_eq!(stage.overlap(&[1, 2, 3, 4], SEED), 3);
    assert_eq!((stage.counts.stored_blocks, stage.writer.block_size()), (3, Some(2)));
    stage.apply(removed(&[3, 9]));
    assert_eq!(stage.overlap(&[1, 2, 3], SEED), 2);
    assert_eq!((stage.counts.removed_blocks, stage.ignored()), (1, vec![("unknown_block", 1)]));
    stage.apply(vec![("type", Text("AllBlocksCleared"))]);
    assert_eq!((stage.overlap(&[1], SEED), stage.counts.clears), (0, 1));
    assert!(stage.rejected().is_empty());
}

#[test]
fn adapter_and_salt_move_the_seed_and_chains_inherit_it() {
    let keys = |first: Vec<Item>, second: Item| List(vec![List(first), second]);
    let adapter = || List(vec![Text("lora")]);
    let rows = [
        (None, Some("tenant"), keys(vec![Text("tenant")], Nil)),
        (Some("lora"), None, keys(vec![Text("lora")], adapter())),
        (Some("lora"), Some("tenant"), keys(vec![Text("lora"), Text("tenant")], adapter())),
        (Some("lora"), Some("lora"), keys(vec![Text("lora"), Text("lora")], adapter())),
    ];
    for (name, salt, keys) in rows {
        let mut stage = Stage::new();
        let name_item = || name.map_or(Nil, Text);
        let first = with(stored(None, &[1, 2]), "extra_keys", keys);
        stage.apply(with(first, "lora_name", name_item()));
        stage.apply(with(stored(Some(2), &[3]), "lora_name", name_item()));
        assert_eq!(stage.overlap(&[1, 2, 3], seed(name, salt)), 3, "{name:?}, {salt:?}");
        assert_eq!(stage.overlap(&[1, 2, 3], SEED), 0);
    }
    let mut stage = Stage::new();
    stage.apply(with(stored(None, &[1]), "cache_salt", Text("tenant")));
    assert_eq!(stage.overlap(&[1], seed(None, Some("tenant"))), 1);
}

#[test]
fn media_and_embeddings_match_no_text_but_carry_the_chain() {
    let media = List(vec![Text("image-1"), Int(-3)]);
    for key in [media, Bin(vec![7; 32]), Text("bare identifier"), Int(5)] {
        let mut stage = Stage::new();
        let keys = List(vec![Nil, List(vec![key])]);
        stage.apply(with(stored(None, &[1, 2]), "extra_keys", keys));
        stage.apply(stored(Some(2), &[3]));
        assert_eq!(stage.overlap(&[1, 2, 3], SEED), 1);
        stage.apply(removed(&[3, 2]));
        assert_eq!(stage.index.blocks(source().holder, Tier::Device), 1);
        assert!(stage.rejected().is_empty() && stage.ignored().is_empty());
    }
    let mut stage = Stage::new();
    let keys = List(vec![List(vec![List(vec![Text("image-1"), Int(0)])])]);
    stage.apply(with(stored(None, &[1]), "extra_keys", keys));
    let image = media_hash("image-1").unwrap();
    let hash = local_hash(&[2, 3], &[image], SEED, &mut Vec::new());
    assert_eq!(stage.index.find_matches(&[hash]).len(), 1);
}

#[test]
fn what_is_not_the_main_cache_is_ignored_and_counted() {
    let rows = [
        (with(stored(None, &[1]), "medium", Text("OBJ")), "medium"),
        (with(removed(&[1]), "medium", Text("SHARED")), "medium"),
        (with(stored(None, &[1]), "locality", Text("REMOTE")), "remote"),
        (with(stored(None, &[1]), "ownership", Text("tier")), "ownership"),
        (with(stored(None, &[1]), "kv_cache_spec_kind", Text("mamba")), "other_attention"),
        (with(removed(&[1]), "group_idx", Int(3)), "other_attention"),
        (with(stored(None, &[1]), "lora_id", Int(3)), "adapter_without_name"),
        (vec![("type", Text("Ignored"))], "marked_ignored"),
    ];
    for (event, reason) in rows {
        let mut stage = Stage::new();
        stage.apply(event);
        assert_eq!(stage.ignored(), [(reason, 1)]);
        assert_eq!(stage.index.stats().nodes, 0);
        assert!(stage.rejected().is_empty());
    }
}

#[test]
fn tiers_are_told_apart_and_blocks_may_be_copied_by_name_alone() {
    let on = |event, medium| with(event, "medium", Text(medium));
    let mut stage = Stage::new();
    stage.apply(stored(None, &[1, 2])).apply(on(stored(Some(2), &[3]), "cpu"));
    let placeholder =
        with(with(stored(None, &[2, 9]), "token_ids", List(vec![])), "block_size", Int(0));
    stage.apply(on(placeholder, "STORAGE"));
    let reach = |stage: &Stage| {
        let found = stage.index.find_matches(&local(&[1, 2, 3], SEED))[0];
        (found.blocks, found.host, found.disk)
    };
    assert_eq!(reach(&stage), (2, 3, 3));
    assert_eq!(stage.ignored(), [("unknown_block", 1)]);
    stage.apply(removed(&[2]));
    assert_eq!(reach(&stage), (1, 1, 2));
    stage.apply(on(removed(&[2]), "STORAGE"));
    assert_eq!(reach(&stage), (1, 1, 1));
    assert!(stage.rejected().is_empty());
}

#[test]
fn a_chain_whose_parent_comes_late_waits_for_it() {
    let mut stage = Stage::new();
    stage.apply(stored(Some(2), &[3])).apply(stored(None, &[1, 2]));
    assert_eq!(stage.overlap(&[1, 2, 3], SEED), 3);
    assert_eq!(stage.rejected(), [("unknown_parent", 1)]);
}

#[test]
fn a_removal_goes_by_the_kind_that_its_group_was_stored_with() {
    let group = |event, number| with(event, "group_idx", Int(number));
    let of = |kind, number, block| {
        group(with(stored(None, &[block]), "kv_cache_spec_kind", Text(kind)), number)
    };
    let mut stage = Stage::new();
    stage.apply(of("full_attention", 1, 1)).apply(of("sliding_window", 0, 2));
    stage.apply(group(removed(&[1]), 0));
    assert_eq!(stage.overlap(&[1], SEED), 1, "the other group's removal");
    stage.apply(group(removed(&[1]), 1));
    assert_eq!(stage.overlap(&[1], SEED), 0);
}

#[test]
fn an_event_that_cannot_be_placed_is_rejected_by_reason_and_the_next_counts() {
    let rows = [
        (with(stored(None, &[1, 2]), "token_ids", List(vec![Int(1)])), "token_count"),
        (with(stored(None, &[1]), "block_size", Int(0)), "block_size"),
        (with(stored(None, &[1]), "block_size", Int(4)), "block_size"),
        (stored(Some(77), &[1]), "unknown_parent"),
        (stored(Some(5), &[6, 5]), "self_parent"),
    ];
    for (event, reason) in rows {
        let mut stage = Stage::new();
        stage.apply(stored(None, &[5])).apply(event).apply(stored(Some(5), &[8]));
        assert_eq!(stage.rejected(), [(reason, 1)]);
        assert_eq!(stage.overlap(&[5, 8], SEED), 2);
    }
}

#[test]
fn an_event_without_blocks_teaches_no_block_size() {
    let mut stage = Stage::new();
    stage.apply(with(stored(None, &[]), "block_size", Uint(u64::from(u32::MAX))));
    assert_eq!(stage.writer.block_size(), None);
    stage.apply(stored(None, &[1]));
    assert_eq!((stage.overlap(&[1], SEED), stage.writer.block_size()), (1, Some(2)));
}

#[test]
fn a_restart_lets_the_engine_have_another_block_size() {
    let mut stage = Stage::new();
    stage.apply(stored(None, &[1]));
    stage.writer.restart();
    stage.writer.clear(source().holder);
    let other = with(stored(None, &[1]), "block_size", Int(1));
    let other = with(other, "token_ids", List(vec![Int(4)]));
    stage.apply(other);
    assert!(stage.rejected().is_empty());
    assert_eq!(stage.writer.block_size(), Some(1));
}
