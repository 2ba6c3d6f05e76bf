//! One stream's path from bytes to the index, without sockets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use warmpath_radix::{Holder, Index};

use super::apply::{Writer, count};
use super::saved::Entry;
use super::sequence::{Mark, Sequence, Step};
use super::wire::{self, Batch, Reject};
use super::{RankSnapshot, RankStatus, Source};

/// What became of a batch that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its events are in the index.
    Applied,
    /// It was applied before and changed nothing.
    Duplicate,
    /// Nothing was done: the batches from `from` to before `until` come first. Ask
    /// for them and offer this one again, or give them up with
    /// [`Applier::apply_after_loss`].
    Gap {
        /// The first that is missing.
        from: u64,
        /// The batch that was offered.
        until: u64,
    },
    /// The engine has begun anew. What it held is forgotten; the batch itself was
    /// not applied: ask for everything from 0 and offer it again.
    Restarted,
}

/// Decode, sequence, apply: everything that [`follow`](super::follow) does with a
/// message once it has one.
pub struct Applier {
    worker_name: String,
    holder: Holder,
    ranks: u32,
    writer: Writer,
    status: Arc<RankStatus>,
    sequence: Sequence,
    /// Holders that this stream wrote to, and so has to clear.
    seen: BTreeSet<Holder>,
}

impl Applier {
    /// The path of one stream. Only the fields of `source` that name the holder,
    /// its ranks and its block size matter.
    pub fn new(source: &Source, index: Arc<Index>, status: Arc<RankStatus>) -> Self {
        let writer = Writer::new(index, source.block_size);
        status.update(|status| status.block_size = source.block_size);
        Self {
            worker_name: source.worker_name.clone(),
            holder: source.holder,
            ranks: source.ranks,
            writer,
            status,
            sequence: Sequence::default(),
            seen: BTreeSet::from([source.holder]),
        }
    }

    /// Where this stream is, for a snapshot of its holder to be taken before the next batch.
    ///
    /// None before the first batch, and of a stream that named other ranks too: their
    /// blocks are as of other streams' batches.
    pub(super) fn saved_as(&self, worker: &str, rank: u32) -> Option<(Entry, Holder, Arc<Index>)> {
        let (mark, first) = self.sequence.position()?;
        let entry = Entry {
            worker: worker.to_owned(),
            rank,
            seq: mark.seq,
            digest: mark.digest,
            timestamp: mark.timestamp,
            first,
            block_size: self.writer.block_size(),
            groups: self.writer.groups(),
        };
        let index = Arc::clone(self.writer.index());
        (self.seen.len() == 1).then_some((entry, self.holder, index))
    }

    /// Goes on where an earlier process was; its blocks are in the index.
    pub(super) fn resume(&mut self, entry: &Entry) {
        let (seq, timestamp, digest) = (entry.seq, entry.timestamp, entry.digest);
        self.sequence.resume(Mark { seq, timestamp, digest }, entry.first);
        self.writer.resume(entry.block_size, &entry.groups);
        let block_size = self.writer.block_size();
        self.status.update(|status| {
            status.last_seq = Some(seq);
            status.block_size = block_size;
        });
    }

    /// Whose blocks this stream tells of, and where they go.
    pub(super) fn target(&self) -> (Holder, Arc<Index>) {
        (self.holder, Arc::clone(self.writer.index()))
    }

    /// The number of the last batch applied.
    pub fn last(&self) -> Option<u64> {
        self.sequence.last()
    }

    /// Sequence number and payload of a published message; counted if it has none.
    pub fn split<'f, F: AsRef<[u8]>>(&self, frames: &'f [F]) -> Option<(u64, &'f [u8])> {
        let split = wire::frames(frames);
        split.inspect_err(|reject| self.status.reject(reject.name())).ok()
    }

    /// Offers a batch, live or replayed.
    pub fn offer(&mut self, seq: u64, payload: &[u8]) -> Verdict {
        let batch = Batch::decode(payload);
        let mark = mark(seq, payload, &batch);
        match self.sequence.step(mark) {
            Step::Apply => {
                self.apply(mark, batch);
                Verdict::Applied
            }
            Step::Duplicate => Verdict::Duplicate,
            Step::Gap { from, until } => Verdict::Gap { from, until },
            Step::Restart => {
                self.restart();
                Verdict::Restarted
            }
        }
    }

    /// Applies a batch whose predecessors are gone for good, and counts those.
    pub fn apply_after_loss(&mut self, seq: u64, payload: &[u8]) {
        let batch = Batch::decode(payload);
        let mark = mark(seq, payload, &batch);
        if let Step::Gap { from, until } = self.sequence.step(mark) {
            self.status.update(|status| {
                status.lost_batches = status.lost_batches.saturating_add(until - from);
            });
        }
        self.apply(mark, batch);
    }

    /// Forgets what the engine held: it has begun anew.
    pub fn restart(&mut self) {
        self.forget();
        self.status.update(|status| status.restarts += 1);
    }

    /// Begins at nothing, so that a replay from 0 can build the state again.
    pub(super) fn forget(&mut self) {
        for &holder in &self.seen {
            self.writer.clear(holder);
        }
        self.sequence.reset();
        self.writer.restart();
        let block_size = self.writer.block_size();
        self.status.update(|status| {
            status.last_seq = None;
            status.block_size = block_size;
        });
    }

    /// A batch that cannot be decoded still advances the sequence: to stay behind
    /// it would make every later batch look like a gap.
    fn apply(&mut self, mark: Mark, batch: Result<Batch<'_>, Reject>) {
        let mut counts = RankSnapshot::default();
        match batch {
            Ok(batch) => match self.holder_of(batch.rank) {
                Some(holder) => {
                    self.seen.insert(holder);
                    for event in batch.events() {
                        counts.events += 1;
                        match event {
                            Ok(event) => self.writer.apply(holder, event, &mut counts),
                            Err(reject) => count(&mut counts.rejected, reject.name()),
                        }
                    }
                }
                None => count(&mut counts.rejected, Reject::RankOutOfRange.name()),
            },
            Err(reject) => count(&mut counts.rejected, reject.name()),
        }
        self.sequence.advance(mark);
        let tokens = tokens(&counts);
        let block_size = self.writer.block_size();
        self.status.update(|status| {
            status.batches += 1;
            status.last_seq = Some(mark.seq);
            status.last_event = Some(Instant::now());
            status.block_size = block_size;
            status.absorb(counts);
        });
        if let Some(tokens) = tokens {
            self.status.usable(&self.worker_name, self.holder.rank, tokens.err());
        }
    }

    fn holder_of(&self, rank: Option<u64>) -> Option<Holder> {
        match rank {
            Some(rank) if self.ranks > 1 => {
                let rank = u32::try_from(rank).ok().filter(|&rank| rank < self.ranks)?;
                Some(Holder { rank, ..self.holder })
            }
            _ => Some(self.holder),
        }
    }
}

/// Whether the tokens in the events that were counted can be used, or why not; none
/// if there were no events that could have had any.
pub(super) fn tokens(counts: &RankSnapshot) -> Option<Result<(), &'static str>> {
    let useless = [Reject::NoTokens, Reject::TokenPairs].map(Reject::name);
    match useless.into_iter().find(|reason| counts.rejected.contains_key(reason)) {
        Some(reason) => Some(Err(reason)),
        None => (counts.stored_blocks > 0).then_some(Ok(())),
    }
}

fn mark(seq: u64, payload: &[u8], batch: &Result<Batch<'_>, Reject>) -> Mark {
    Mark::new(seq, batch.as_ref().ok().and_then(|batch| batch.timestamp), payload)
}

#[cfg(test)]
mod tests;
