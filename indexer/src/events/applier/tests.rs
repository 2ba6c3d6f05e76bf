//! A stream's path as a whole: order, loss, restart, ranks.

use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};

use super::*;
use crate::events::testing::Item::Map;
use crate::events::testing::capture;
use crate::events::testing::{batch_at, local, removed, source, stored};
use crate::recording::{Line, Recording};
use warmpath_blocks::SEED;
use warmpath_radix::WorkerId;

struct Stage {
    index: Arc<Index>,
    status: Arc<RankStatus>,
    applier: Applier,
}

fn stage(ranks: u32) -> Stage {
    let (index, status) = (Arc::new(Index::new()), Arc::new(RankStatus::new()));
    let source = Source { ranks, ..source() };
    let applier = Applier::new(&source, index.clone(), status.clone());
    Stage { index, status, applier }
}

impl Stage {
    fn overlap(&self, rank: u32, blocks: &[u64]) -> u32 {
        let holder = Holder { worker: WorkerId(0), rank };
        let found = self.index.find_matches(&local(blocks, SEED));
        found.iter().find(|found| found.holder == holder).map_or(0, |found| found.blocks)
    }
}

fn payload(time: f64, parent: Option<u64>, block: u64) -> Vec<u8> {
    batch_at(time, 0, vec![Map(stored(parent, &[block]))])
}

#[test]
fn a_gap_waits_for_what_is_missing_or_for_its_loss() {
    let mut stage = stage(1);
    let batches = [payload(1.0, None, 1), payload(2.0, Some(1), 2), payload(3.0, Some(2), 3)];
    assert_eq!(stage.applier.offer(0, &batches[0]), Verdict::Applied);
    assert_eq!(stage.applier.offer(2, &batches[2]), Verdict::Gap { from: 1, until: 2 });
    assert_eq!(stage.applier.offer(1, &batches[1]), Verdict::Applied);
    assert_eq!(stage.applier.offer(2, &batches[2]), Verdict::Applied);
    assert_eq!(stage.applier.offer(2, &batches[2]), Verdict::Duplicate);
    assert_eq!(stage.overlap(0, &[1, 2, 3]), 3);
    let late = batch_at(9.0, 0, vec![Map(removed(&[3]))]);
    stage.applier.apply_after_loss(9, &late);
    assert_eq!(stage.overlap(0, &[1, 2, 3]), 2);
    let status = stage.status.snapshot();
    assert_eq!((status.lost_batches, status.last_seq, status.batches), (6, Some(9), 4));
}

#[test]
fn a_stream_without_tokens_is_degraded_until_they_come() {
    let mut stage = stage(1);
    let mut bare = stored(None, &[1]);
    bare.retain(|(name, _)| *name != "token_ids");
    stage.applier.offer(0, &batch_at(1.0, 0, vec![Map(bare.clone())]));
    stage.applier.offer(1, &batch_at(2.0, 0, vec![Map(bare)]));
    let status = stage.status.snapshot();
    assert_eq!((status.degraded(), status.degradations), (Some("no_tokens"), 1));
    stage.applier.offer(2, &batch_at(3.0, 0, vec![Map(removed(&[1]))]));
    assert_eq!(stage.status.snapshot().degraded(), Some("no_tokens"), "nothing was stored");
    stage.applier.offer(3, &payload(4.0, None, 1));
    assert_eq!((stage.status.snapshot().degraded(), stage.overlap(0, &[1])), (None, 1));
}

#[test]
fn an_engine_that_begins_anew_is_forgotten_first() {
    let mut stage = stage(1);
    stage.applier.offer(0, &payload(1.0, None, 1));
    stage.applier.offer(1, &payload(2.0, Some(1), 2));
    let anew = payload(9.0, None, 7);
    assert_eq!(stage.applier.offer(0, &anew), Verdict::Restarted);
    assert_eq!((stage.overlap(0, &[1]), stage.applier.last()), (0, None));
    assert_eq!(stage.applier.offer(0, &anew), Verdict::Applied);
    assert_eq!(stage.overlap(0, &[7]), 1);
    assert_eq!(stage.status.snapshot().restarts, 1);
}

#[test]
fn a_batch_that_cannot_be_decoded_does_not_stop_the_next() {
    let mut stage = stage(1);
    assert_eq!(stage.applier.offer(0, b"not a batch"), Verdict::Applied);
    assert_eq!(stage.applier.offer(1, &payload(1.0, None, 1)), Verdict::Applied);
    let status = stage.status.snapshot();
    assert_eq!(status.rejected.get("batch_layout"), Some(&1));
    assert_eq!((status.gaps, status.batches), (0, 2));
}

#[test]
fn a_message_of_other_frames_is_counted() {
    let stage = stage(1);
    assert_eq!(stage.applier.split(&[b"only", b"two!"]), None);
    assert_eq!(stage.status.snapshot().rejected.get("frames"), Some(&1));
    let seq = 5u64.to_be_bytes();
    assert_eq!(stage.applier.split(&[&b""[..], &seq, b"payload"]), Some((5, &b"payload"[..])));
}

#[test]
fn a_batchs_rank_counts_only_where_the_worker_has_ranks() {
    let batch = |rank| batch_at(1.0, rank, vec![Map(stored(None, &[1]))]);
    let mut two = stage(2);
    two.applier.offer(0, &batch(1));
    assert_eq!((two.overlap(0, &[1]), two.overlap(1, &[1])), (0, 1));
    two.applier.offer(1, &batch(2));
    two.applier.offer(2, &batch(-1));
    assert_eq!(two.status.snapshot().rejected.get("rank_out_of_range"), Some(&2));
    two.applier.restart();
    assert_eq!(two.overlap(1, &[1]), 0, "a restart clears every rank that the stream named");

    let mut one = stage(1);
    one.applier.offer(0, &batch(5));
    assert_eq!(one.overlap(0, &[1]), 1);
}

/// The messages of real engines, in both layouts.
fn recorded() -> Vec<Vec<u8>> {
    let lines = ["eviction", "v0.23.0_array", "default_chat"]
        .map(|name| Recording::read(&capture(name)).unwrap().lines);
    let frames = lines.into_iter().flatten().filter_map(|(_, line)| match line {
        Line::Published { mut frames, .. } => frames.pop(),
        _ => None,
    });
    frames.collect()
}

proptest! {
    /// Any damage to real messages is survived, and the index stays consistent.
    #[test]
    fn no_damage_to_a_recorded_message_breaks_the_index(
        damaged in prop::collection::vec(
            (
                select(recorded()),
                prop::collection::vec((any::<Pick>(), any::<u8>()), 0..4),
                prop::option::weighted(0.2, any::<Pick>()),
            ),
            1..8,
        ),
    ) {
        let mut stage = stage(2);
        for (seq, (mut payload, changes, cut)) in damaged.into_iter().enumerate() {
            for (at, byte) in changes {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            if let Some(cut) = cut {
                payload.truncate(cut.index(payload.len()));
            }
            prop_assert_eq!(stage.applier.offer(seq as u64, &payload), Verdict::Applied);
            prop_assert_eq!(stage.index.audit(), Ok(()));
        }
    }
}
