//! What is known about one event stream: counters for metrics, readiness, operators.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

/// The state of one rank's event stream, shared between its follower and readers.
///
/// One small mutex, taken once per batch: a batch costs thousands of hashes, and
/// a reader wants figures that belong together.
#[derive(Debug, Default)]
pub struct RankStatus {
    inner: Mutex<RankSnapshot>,
}

/// A copy of a [`RankStatus`] at one moment. Counters count since the start.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct RankSnapshot {
    /// The engine is connected now (for a bound socket: it is bound).
    pub connected: bool,
    /// The first replay has ended or was given up: what can be known of blocks
    /// stored before we came is known.
    pub synced: bool,
    /// Sequence number of the last batch that was applied.
    pub last_seq: Option<u64>,
    /// When the last batch arrived.
    pub last_event: Option<Instant>,
    /// Tokens in a block, as configured or learned from the first event.
    pub block_size: Option<u32>,
    /// Batches applied, replayed ones included.
    pub batches: u64,
    /// Events in them, whatever came of each.
    pub events: u64,
    /// Blocks stored, further copies included.
    pub stored_blocks: u64,
    /// Copies of blocks removed.
    pub removed_blocks: u64,
    /// `AllBlocksCleared` events.
    pub clears: u64,
    /// Jumps in the sequence, whether a replay filled them or not.
    pub gaps: u64,
    /// Batches that no replay could bring back.
    pub lost_batches: u64,
    /// Replays asked for.
    pub replays: u64,
    /// Times that the engine turned out to have begun anew.
    pub restarts: u64,
    /// Batches and events that could not be used, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Events that are fine but none of ours, by reason.
    pub ignored: BTreeMap<&'static str, u64>,
    /// Why the events can not be had at all, while that is so.
    pub failing: Option<&'static str>,
    /// Why the events that come can not be used, while that is so.
    pub useless: Option<&'static str>,
    /// Times that either began.
    pub degradations: u64,
}

impl RankSnapshot {
    /// Why events tell nothing of what the rank holds, while that is so.
    pub fn degraded(&self) -> Option<&'static str> {
        self.failing.or(self.useless)
    }

    /// Adds what was counted of a batch.
    pub(super) fn absorb(&mut self, counts: RankSnapshot) {
        self.events += counts.events;
        self.stored_blocks += counts.stored_blocks;
        self.removed_blocks += counts.removed_blocks;
        self.clears += counts.clears;
        self.gaps += counts.gaps;
        self.lost_batches = self.lost_batches.saturating_add(counts.lost_batches);
        self.restarts += counts.restarts;
        for (into, from) in
            [(&mut self.rejected, counts.rejected), (&mut self.ignored, counts.ignored)]
        {
            for (reason, times) in from {
                *into.entry(reason).or_default() += times;
            }
        }
    }
}

impl RankStatus {
    /// A stream of which nothing has been seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// All figures, as of one moment.
    pub fn snapshot(&self) -> RankSnapshot {
        self.inner.lock().clone()
    }

    /// The block size alone: every decision asks for it.
    pub fn block_size(&self) -> Option<u32> {
        self.inner.lock().block_size
    }

    /// Why its events can not be had or used, alone.
    pub fn degraded(&self) -> Option<&'static str> {
        self.inner.lock().degraded()
    }

    /// How many batches were applied, alone.
    pub(super) fn batches(&self) -> u64 {
        self.inner.lock().batches
    }

    /// When the last batch arrived, alone.
    pub fn last_event(&self) -> Option<Instant> {
        self.inner.lock().last_event
    }

    /// Notes whether the events can be had; `reason` why not.
    pub(super) fn failing(&self, worker: &str, rank: u32, reason: Option<&'static str>) {
        self.degrade(worker, rank, |status| status.failing = reason);
    }

    /// Notes whether the events that came can be used; `reason` why not.
    pub(super) fn usable(&self, worker: &str, rank: u32, reason: Option<&'static str>) {
        self.degrade(worker, rank, |status| status.useless = reason);
    }

    /// Said once: an engine that goes back and forth shows in the metrics.
    fn degrade(&self, worker: &str, rank: u32, change: impl FnOnce(&mut RankSnapshot)) {
        let mut status = self.inner.lock();
        let before = status.degraded();
        change(&mut status);
        let after = status.degraded();
        if before.is_none() && after.is_some() {
            status.degradations += 1;
        }
        let first = status.degradations == 1;
        drop(status);
        match (before, after) {
            (None, Some(reason)) if first => tracing::warn!(
                worker,
                rank,
                reason,
                "no usable KV events: routed by load and by predictions until they come; said only once"
            ),
            (Some(_), None) if first => tracing::info!(worker, rank, "KV events are used again"),
            _ => {}
        }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RankSnapshot)) {
        change(&mut self.inner.lock());
    }

    pub(crate) fn reject(&self, reason: &'static str) {
        self.update(|status| *status.rejected.entry(reason).or_default() += 1);
    }
}
