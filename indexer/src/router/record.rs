//! Decisions as they are remembered, for whoever asks why.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::{Value, json};
use warmpath_protocol::{Decision, Score};

use super::{Candidate, Seat};

/// One decision with everything that led to it; no prompt text, no hashes but
/// the last, which names the whole prefix.
#[derive(Debug)]
pub struct Record {
    /// The request's id, as far as it is kept.
    pub request_id: String,
    /// When it was decided.
    pub at: SystemTime,
    /// The base model; none where the client named none.
    pub model: Option<String>,
    /// Length of the prompt in tokens.
    pub tokens: u64,
    /// Sequence hash of the prompt's last full block, where `explain` asked for it.
    pub last_sequence_hash: Option<u64>,
    /// Digest of all token ids, where it was sent.
    pub token_digest: Option<u64>,
    /// What was answered.
    pub decision: Decision,
    /// Every candidate as the policy saw it.
    pub candidates: Vec<Scored>,
    /// From the first byte parsed to the decision.
    pub took: Duration,
}

/// A candidate, its score and its name.
#[derive(Clone, Debug)]
pub struct Scored {
    worker: Arc<str>,
    rank: u32,
    score: f64,
    candidate: Candidate,
}

impl Scored {
    fn report(&self) -> Score {
        Score {
            worker: self.worker.to_string(),
            rank: self.rank,
            // JSON has no infinities.
            score: self.score.clamp(f64::MIN, f64::MAX),
            overlap_blocks: self.candidate.overlap_blocks,
            predicted_blocks: self.candidate.predicted_blocks,
            busy: self.candidate.busy,
            kv_usage: self.candidate.load.kv_usage,
            waiting: self.candidate.load.waiting,
        }
    }
}

pub(super) fn scored(seats: &[Seat<'_>], candidates: &[Candidate], scores: &[f64]) -> Vec<Scored> {
    let one = |((seat, candidate), score): ((&Seat<'_>, &Candidate), &f64)| Scored {
        worker: Arc::clone(&seat.worker.name),
        rank: seat.rank.rank,
        score: *score,
        candidate: *candidate,
    };
    seats.iter().zip(candidates).zip(scores).map(one).collect()
}

pub(super) fn best_first(scored: &[Scored]) -> Vec<Score> {
    let mut all: Vec<&Scored> = scored.iter().collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.into_iter().map(Scored::report).collect()
}

impl Record {
    /// What the policy saw of a worker's first rank among the candidates.
    #[cfg(test)]
    pub(super) fn candidate(&self, worker: &str) -> Option<Candidate> {
        self.candidates.iter().find(|one| &*one.worker == worker).map(|one| one.candidate)
    }

    /// The record as the API shows it.
    pub fn report(&self) -> Value {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut decision = json!(self.decision);
        if let Some(decision) = decision.as_object_mut() {
            decision.remove("scores");
        }
        json!({
            "request_id": self.request_id,
            "time": since.as_secs_f64(),
            "model": self.model,
            "tokens": self.tokens,
            "total_blocks": self.decision.total_blocks,
            "last_sequence_hash": self.last_sequence_hash,
            "token_digest": self.token_digest,
            "decision": decision,
            "scores": best_first(&self.candidates),
            "index_age_ms": self.decision.index_age_ms,
            "decision_us": self.took.as_nanos() as f64 / 1000.0,
        })
    }
}

/// Longest request id that is kept, in bytes; clients choose it.
const ID_MOST: usize = 256;

/// The part of a request id that is kept and looked for.
pub(super) fn kept(request_id: &str) -> &str {
    &request_id[..request_id.floor_char_boundary(ID_MOST)]
}

/// The last decisions, newest last.
#[derive(Debug)]
pub struct Ring {
    most: usize,
    records: Mutex<VecDeque<Arc<Record>>>,
}

impl Ring {
    /// A ring that keeps that many.
    pub fn new(most: usize) -> Self {
        Self { most, records: Mutex::new(VecDeque::with_capacity(most)) }
    }

    /// Remembers a decision, and forgets the oldest where there is no room.
    pub fn push(&self, record: Arc<Record>) {
        if self.most == 0 {
            return;
        }
        let mut records = self.records.lock();
        // The oldest is freed after the lock is.
        let oldest = (records.len() >= self.most).then(|| records.pop_front());
        records.push_back(record);
        drop(records);
        drop(oldest);
    }

    /// The last `number`, newest first.
    pub fn last(&self, number: usize) -> Vec<Arc<Record>> {
        self.records.lock().iter().rev().take(number).cloned().collect()
    }

    /// The newest decision for a request.
    pub fn find(&self, request_id: &str) -> Option<Arc<Record>> {
        let wanted = kept(request_id);
        self.records.lock().iter().rev().find(|one| one.request_id == wanted).cloned()
    }
}
