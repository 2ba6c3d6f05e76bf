//! Answers of `trtllm-serve`, by hand.

use proptest::prelude::*;
use serde_json::{Value, json};
use warmpath_blocks::{SEED, local_hashes, seed};
use warmpath_radix::WorkerId;

use super::*;
use crate::events::RankSnapshot;

/// Block `n` has the tokens 4n to 4n + 3 and the hash n.
fn tokens(block: u64) -> Vec<u32> {
    (0..4).map(|at| 4 * block as u32 + at).collect()
}

fn block(number: u64) -> Value {
    let token = |id| json!({"type": "unique_token", "token_id": id, "token_extra_id": 0});
    json!({
        "type": "stored_block", "block_hash": number, "cache_level": 0, "priority": 35,
        "tokens": tokens(number).into_iter().map(token).collect::<Vec<_>>(), "mm_keys": [],
    })
}

fn stored(parent: Option<u64>, blocks: &[u64]) -> Value {
    let blocks: Vec<Value> = blocks.iter().copied().map(block).collect();
    json!({"type": "stored", "parent_hash": parent, "blocks": blocks})
}

fn removed(blocks: &[u64]) -> Value {
    json!({"type": "removed", "block_hashes": blocks})
}

fn moved(block: u64, from: u32, to: u32) -> Value {
    let diff = json!({"type": "event_diff", "new_value": to, "old_value": from});
    json!({"type": "updated", "block_hash": block, "cache_level": diff, "priority": null})
}

fn created() -> Value {
    json!({"type": "created", "num_blocks_per_cache_level": [1000, 0]})
}

struct Stage {
    drain: Drain,
    index: Arc<Index>,
    ranks: Vec<(Holder, Arc<RankStatus>)>,
    next: u64,
}

impl Stage {
    fn new(ranks: u32, block_size: Option<u32>) -> Self {
        let index = Arc::new(Index::new());
        let rank = |rank| (Holder { worker: WorkerId(0), rank }, Arc::new(RankStatus::new()));
        let source = PollSource {
            worker_name: "test".to_owned(),
            ranks: (0..ranks).map(rank).collect(),
            url: String::new(),
            every: Duration::ZERO,
            timeout: Duration::ZERO,
            block_size,
        };
        let drain = Drain::new(&source, index.clone());
        Self { drain, index, ranks: source.ranks, next: 0 }
    }

    fn offer(&mut self, events: &[Value]) -> &mut Self {
        let body = serde_json::to_vec(events).unwrap();
        self.drain.offer(&body).unwrap();
        self.index.audit().unwrap();
        self
    }

    /// Each of these as the next event, all in one answer.
    fn tell(&mut self, data: impl IntoIterator<Item = Value>) -> &mut Self {
        let events: Vec<Value> = data
            .into_iter()
            .map(|data| {
                self.next += 1;
                json!({"event_id": self.next - 1, "window_size": 4096, "data": data})
            })
            .collect();
        self.offer(&events)
    }

    fn status(&self) -> RankSnapshot {
        self.ranks[0].1.snapshot()
    }

    /// How many of these blocks each tier's reach covers: device, host, disk.
    fn reach(&self, blocks: &[u64]) -> (u32, u32, u32) {
        self.reach_of(0, blocks, SEED)
    }

    fn reach_of(&self, rank: u32, blocks: &[u64], seed: u64) -> (u32, u32, u32) {
        let tokens: Vec<u32> = blocks.iter().flat_map(|&block| tokens(block)).collect();
        let found = self.index.find_matches(&local_hashes(&tokens, 4, seed));
        let found = found.iter().find(|found| found.holder.rank == rank);
        found.map_or((0, 0, 0), |found| (found.blocks, found.host, found.disk))
    }

    fn held(&self, blocks: &[u64]) -> u32 {
        self.reach(blocks).0
    }
}

#[test]
fn blocks_come_and_go_and_teach_the_block_size() {
    let mut stage = Stage::new(1, None);
    stage.tell([created(), stored(None, &[1, 2]), stored(Some(2), &[3])]);
    assert_eq!(stage.held(&[1, 2, 3, 9]), 3);
    stage.tell([removed(&[3])]);
    assert_eq!(stage.held(&[1, 2, 3]), 2);
    let status = stage.status();
    assert_eq!((status.block_size, status.last_seq, status.events), (Some(4), Some(3), 4));
    assert_eq!((status.stored_blocks, status.removed_blocks, status.gaps), (3, 1, 0));
    assert!(status.rejected.is_empty() && status.ignored.is_empty());
}

#[test]
fn a_partial_block_is_never_hashed_and_its_removal_is_no_news() {
    let mut stage = Stage::new(1, None);
    let mut event = stored(None, &[1, 2, 7]);
    event["blocks"][2]["tokens"].as_array_mut().unwrap().pop();
    stage.tell([event, removed(&[7]), stored(Some(2), &[3])]);
    assert_eq!((stage.held(&[1, 2, 3]), stage.held(&[1, 2, 7])), (3, 2));
    assert_eq!(stage.status().ignored, [("partial_block", 1)].into());
}

#[test]
fn a_lone_block_of_unknown_size_is_left_out_and_a_longer_one_corrects_what_was_learned() {
    let mut stage = Stage::new(1, None);
    stage.tell([stored(None, &[5]), removed(&[5])]);
    assert_eq!(stage.held(&[5]), 0);
    assert_eq!(stage.status().ignored, [("unknown_size", 1)].into());
    // Two short blocks in a chain never come from an engine, but were they to come:
    let mut short = stored(None, &[1, 2]);
    for at in 0..2 {
        short["blocks"][at]["tokens"].as_array_mut().unwrap().truncate(2);
    }
    stage.tell([short]);
    assert_eq!(stage.status().block_size, Some(2));
    stage.tell([stored(None, &[3, 4])]);
    assert_eq!((stage.status().block_size, stage.held(&[3, 4])), (Some(4), 2));
    assert_eq!(stage.status().stored_blocks, 4);
}

#[test]
fn blocks_longer_than_the_declared_size_are_refused() {
    let mut stage = Stage::new(1, Some(3));
    stage.tell([stored(None, &[1, 2])]);
    assert_eq!(stage.status().rejected, [("block_size", 1)].into());
    assert_eq!(stage.index.stats().nodes, 0);
}

#[test]
fn only_the_widest_attention_counts() {
    let mut stage = Stage::new(1, None);
    let of = |id: u64, window: i64, data: Value| json!({"event_id": id, "window_size": window, "data": data});
    stage.offer(&[of(0, 512, created()), of(1, 4096, created())]);
    stage.offer(&[of(2, 512, stored(None, &[1, 2])), of(3, 4096, stored(None, &[1, 2]))]);
    stage.offer(&[of(4, 512, removed(&[1, 2]))]);
    assert_eq!(stage.held(&[1, 2]), 2);
    assert_eq!(stage.status().ignored, [("narrow_window", 2)].into());
    // Who comes late may hear of a narrow one first.
    let mut late = Stage::new(1, None);
    late.offer(&[of(0, 512, stored(None, &[1, 2])), of(1, 4096, stored(None, &[3, 4]))]);
    assert_eq!((late.held(&[1, 2]), late.held(&[3, 4])), (0, 2));
}

#[test]
fn blocks_move_between_tiers_under_one_name() {
    let mut stage = Stage::new(1, None);
    stage.tell([stored(None, &[1, 2, 3]), moved(3, 0, 1), moved(2, 0, 2)]);
    // What lies on the host behind a block on disk is not reached.
    assert_eq!(stage.reach(&[1, 2, 3]), (1, 1, 2));
    stage.tell([moved(2, 2, 0), removed(&[3, 8])]);
    assert_eq!(stage.reach(&[1, 2, 3]), (2, 2, 2));
    assert_eq!(stage.status().ignored, [("unknown_block", 1)].into());
    let priority = json!({"type": "updated", "block_hash": 1, "cache_level": null});
    stage.tell([priority, moved(99, 0, 1)]);
    assert_eq!(stage.status().ignored, [("unknown_block", 2)].into());
}

#[test]
fn a_chain_may_be_stored_over_two_tiers() {
    let mut stage = Stage::new(1, None);
    let mut event = stored(None, &[1, 2, 3]);
    event["blocks"][2]["cache_level"] = json!(1);
    stage.tell([event]);
    assert_eq!(stage.reach(&[1, 2, 3]), (2, 3, 3));
}

#[test]
fn hashes_may_be_integers_of_either_sign_and_text() {
    let digest = "00".repeat(31) + "ab";
    let names =
        [json!(u64::MAX - 1), json!(-7), json!("17112937265853543453"), json!("-9"), json!(digest)];
    for name in names {
        let mut stage = Stage::new(1, None);
        let mut first = stored(None, &[1, 2]);
        first["blocks"][1]["block_hash"] = name.clone();
        let mut second = stored(None, &[3]);
        second["parent_hash"] = name.clone();
        let gone = json!({"type": "removed", "block_hashes": [name]});
        stage.tell([first, second]);
        assert_eq!(stage.held(&[1, 2, 3]), 3, "{name}");
        stage.tell([gone]);
        assert_eq!(stage.held(&[1, 2, 3]), 1, "{name}");
    }
}

#[test]
fn without_tokens_the_worker_is_degraded_until_they_come() {
    let mut stage = Stage::new(1, Some(4));
    let mut event = stored(None, &[1, 2]);
    for at in 0..2 {
        event["blocks"][at].as_object_mut().unwrap().remove("tokens");
    }
    stage.tell([event.clone()]).tell([event]);
    let status = stage.status();
    assert_eq!((status.degraded(), status.degradations), (Some("no_tokens"), 1));
    assert_eq!(status.rejected, [("no_tokens", 2)].into());
    stage.tell([]).tell([stored(None, &[1, 2])]);
    assert_eq!((stage.status().degraded(), stage.held(&[1, 2])), (None, 2));
}

#[test]
fn lost_events_show_as_a_gap_and_the_rest_goes_on() {
    let mut stage = Stage::new(1, None);
    stage.tell([stored(None, &[1, 2])]);
    stage.next = 5;
    stage.tell([stored(Some(2), &[3])]);
    let status = stage.status();
    assert_eq!((status.gaps, status.lost_batches, stage.held(&[1, 2, 3])), (1, 4, 3));
}

#[test]
fn an_engine_that_begins_anew_has_nothing_of_its_former_self() {
    let mut stage = Stage::new(1, None);
    stage.tell([created(), stored(None, &[1, 2])]);
    stage.next = 0;
    stage.tell([created(), stored(None, &[3, 4])]);
    assert_eq!((stage.held(&[1, 2]), stage.held(&[3, 4])), (0, 2));
    assert_eq!(stage.status().restarts, 1);
    // A number that comes again while nothing else hints at a new life is none.
    stage.next = 1;
    stage.tell([stored(None, &[5, 6])]);
    assert_eq!((stage.held(&[3, 4]), stage.held(&[5, 6])), (2, 2));
    // After a failure it does.
    stage.drain.failed("unreachable", false);
    stage.next = 1;
    stage.tell([stored(None, &[7, 8])]);
    assert_eq!((stage.held(&[3, 4]), stage.held(&[7, 8])), (0, 2));
    assert_eq!(stage.status().restarts, 2);
}

#[test]
fn ranks_have_ids_and_blocks_of_their_own_and_an_unknown_rank_costs_its_events() {
    let mut stage = Stage::new(2, None);
    let of = |id: u64, rank: u32, data: Value| json!({"event_id": id, "attention_dp_rank": rank, "data": data});
    stage.offer(&[
        of(0, 0, stored(None, &[1, 2])),
        of(0, 1, stored(None, &[1, 2, 3])),
        of(0, 2, stored(None, &[4, 5])),
        of(1, 1, removed(&[3])),
    ]);
    assert_eq!(stage.reach_of(0, &[1, 2, 3], SEED).0, 2);
    assert_eq!(stage.reach_of(1, &[1, 2, 3], SEED).0, 2);
    assert_eq!(stage.status().rejected, [("rank_out_of_range", 1)].into());
    assert_eq!(stage.ranks[1].1.snapshot().gaps, 0);
}

#[test]
fn adapters_media_and_embeddings_match_no_plain_prompt() {
    let mut stage = Stage::new(1, None);
    let mut adapted = stored(None, &[1, 2]);
    adapted["lora_name"] = json!("fables");
    let mut media = stored(None, &[3, 4]);
    media["blocks"][0]["mm_keys"] =
        json!([{"type": "mm_key", "hash": "ab".repeat(32), "start_offset": 0}]);
    let mut embedded = stored(None, &[5, 6]);
    embedded["blocks"][0]["tokens"][1]["token_extra_id"] = json!(77);
    let mut nameless = stored(None, &[7, 8]);
    nameless["blocks"][0]["lora_id"] = json!(3);
    stage.tell([adapted, media, embedded, nameless]);
    for blocks in [[1, 2], [3, 4], [5, 6], [7, 8]] {
        assert_eq!(stage.held(&blocks), 0, "{blocks:?}");
    }
    assert_eq!(stage.reach_of(0, &[1, 2], seed(Some("fables"), None)).0, 2);
    assert_eq!(stage.status().ignored, [("adapter_without_name", 1)].into());
}

#[test]
fn a_broken_event_costs_itself_and_an_answer_that_is_none_changes_nothing() {
    let mut stage = Stage::new(1, None);
    let mut hash = stored(None, &[1, 2]);
    hash["blocks"][0]["block_hash"] = json!("no hash");
    let mut token = stored(None, &[1, 2]);
    token["blocks"][0]["tokens"][0] = json!({"token_id": -1});
    let odd =
        [json!({}), json!(3), json!(null), json!({"event_id": -1, "data": {"type": "created"}})];
    stage.offer(&odd).tell([hash, token, json!({"type": "sealed"}), stored(None, &[1, 2])]);
    assert_eq!(stage.held(&[1, 2]), 2);
    assert_eq!(stage.status().rejected, [("malformed", 6), ("unknown_event", 1)].into());
    for body in
        [&b"{\"detail\": \"IterationResult is not properly instantiated\"}"[..], b"", b"[{", b"[1"]
    {
        assert_eq!(stage.drain.offer(body), Err("not_events"));
    }
    assert_eq!(stage.held(&[1, 2]), 2);
}

#[test]
fn failures_degrade_only_where_they_last() {
    let mut stage = Stage::new(1, None);
    stage.drain.failed("status", false);
    assert_eq!(stage.status().degraded(), None);
    stage.drain.failed("status", true);
    assert_eq!((stage.status().degraded(), stage.status().connected), (Some("status"), false));
    stage.drain.works();
    assert_eq!(stage.status().degraded(), None);
    assert_eq!(stage.status().rejected, [("status", 2)].into());
}

proptest! {
    /// Against sets of blocks, with random moves: what the index says is held is.
    #[test]
    fn any_history_leaves_what_it_says(steps in prop::collection::vec((0_u8..4, 0_u64..8), 0..60)) {
        let mut stage = Stage::new(1, Some(4));
        // Chains of one block: on which tier each of them is.
        let mut held = std::collections::HashMap::new();
        for (what, block) in steps {
            match (what, held.get(&block).copied()) {
                (0, None) => {
                    held.insert(block, 0);
                    stage.tell([stored(None, &[block])]);
                }
                (1, Some(_)) => {
                    held.remove(&block);
                    stage.tell([removed(&[block])]);
                }
                (2, Some(from)) => {
                    held.insert(block, (from + 1) % 3);
                    stage.tell([moved(block, from, (from + 1) % 3)]);
                }
                (3, None) => drop(stage.tell([removed(&[block]), moved(block, 0, 1)])),
                _ => {}
            }
            for block in 0..8 {
                let expected = match held.get(&block) {
                    None => (0, 0, 0),
                    Some(0) => (1, 1, 1),
                    Some(1) => (0, 1, 1),
                    Some(_) => (0, 0, 1),
                };
                prop_assert_eq!(stage.reach(&[block]), expected);
            }
        }
    }

    #[test]
    fn no_bytes_break_it(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Stage::new(2, None).drain.offer(&body);
    }
}
