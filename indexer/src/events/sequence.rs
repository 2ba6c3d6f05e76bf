/*!
Whether a batch is the next one: a pure state machine over sequence numbers.

Engines count batches from 0 per process and rank, and nothing but the numbers
tells a subscriber of a loss or of a restart. Numbers alone cannot tell a batch
that a replay brought already from one of a new life of the engine, so a digest
of each recent batch is remembered: the same number with the same bytes is a
duplicate, with other bytes it is a restart. Where no digest is left, the
engine's clock decides. Dynamo drops every number at or below its watermark and
so ignores a restarted engine until it has counted past its former self.
*/

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

/// Digests remembered: more than a live queue that overlaps with a replay holds.
const REMEMBERED: usize = 1024;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the next.
    Apply,
    /// The batches from `from` to before `until`, this one's number, are missing.
    Gap { from: u64, until: u64 },
    /// It was applied before.
    Duplicate,
    /// The engine has begun anew: what is known of it is void.
    Restart,
}

/// What identifies a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    pub(super) seq: u64,
    /// The engine's clock in seconds; none if the batch could not be decoded.
    pub(super) timestamp: Option<f64>,
    pub(super) digest: u64,
}

impl Mark {
    pub(super) fn new(seq: u64, timestamp: Option<f64>, payload: &[u8]) -> Self {
        Self { seq, timestamp, digest: xxh3_64(payload) }
    }
}

/// The batches of one stream that were applied.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    last: Option<u64>,
    /// The newest time seen, which a restarted engine's batches come after.
    timestamp: Option<f64>,
    /// Batch 0 is remembered for good: a restart begins with it.
    first: Option<u64>,
    recent: VecDeque<(u64, u64)>,
}

impl Sequence {
    /// The last number applied.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// What to do with this batch; nothing is recorded.
    pub(super) fn step(&self, mark: Mark) -> Step {
        let next = match self.last {
            None => 0,
            Some(last) if mark.seq > last => last + 1,
            Some(_) => return self.repeated(mark),
        };
        match mark.seq == next {
            true => Step::Apply,
            false => Step::Gap { from: next, until: mark.seq },
        }
    }

    /// A number that was there before: the same batch, or another life's.
    fn repeated(&self, mark: Mark) -> Step {
        let same = match self.digest(mark.seq) {
            Some(digest) => digest == mark.digest,
            None => match (mark.timestamp, self.timestamp) {
                (Some(its), Some(newest)) => its <= newest,
                _ => true,
            },
        };
        if same { Step::Duplicate } else { Step::Restart }
    }

    /// Records that this batch was applied, wherever it stands.
    pub(super) fn advance(&mut self, mark: Mark) {
        self.last = Some(mark.seq);
        if mark.timestamp > self.timestamp {
            self.timestamp = mark.timestamp;
        }
        if mark.seq == 0 {
            self.first = Some(mark.digest);
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((mark.seq, mark.digest));
    }

    /// The last batch, and the digest of batch 0 where that is known.
    pub(super) fn position(&self) -> Option<(Mark, Option<u64>)> {
        let seq = self.last?;
        let mark = Mark { seq, timestamp: self.timestamp, digest: self.digest(seq)? };
        Some((mark, self.first))
    }

    /// Goes on behind a batch that an earlier process applied.
    pub(super) fn resume(&mut self, mark: Mark, first: Option<u64>) {
        self.reset();
        self.advance(mark);
        self.first = self.first.or(first);
    }

    /// Forgets everything: another life of the engine begins.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    fn digest(&self, seq: u64) -> Option<u64> {
        let recent = self.recent.iter().rev().find(|(known, _)| *known == seq);
        recent.map(|&(_, digest)| digest).or(self.first.filter(|_| seq == 0))
    }
}

#[cfg(test)]
mod tests;
