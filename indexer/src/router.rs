/*!
The read path: a route request to a decision.

Everything here is synchronous and runs on the thread that parsed the request:
find the candidates, look up what they hold, let the policy score them, book the
choice. A queue in front of a router thread was rejected, it would make every
decision wait for two wake-ups to save a lock that is held for nanoseconds.

What is booked is only that the worker has one more request waiting; two
decisions at the same moment may still choose the same worker, each knowing
nothing of the other. That costs balance, never correctness.
*/

mod metrics;
mod record;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use hashbrown::HashMap;
use warmpath_protocol::{Decision, Pin, Reason, RouteRequest, Score, code};
use warmpath_radix::{Holder, WorkerId};

pub use metrics::RouterMetrics;
pub use record::{Record, Ring};

use crate::fleet::{Fleet, Rank, Worker};
use crate::models::Names;
use crate::policy::{self, Candidate, Policy};

/// How many endpoints follow the chosen one.
const FALLBACKS: usize = 2;

/// Makes decisions.
pub struct Router {
    fleet: Arc<Fleet>,
    names: Arc<Names>,
    policy: &'static dyn Policy,
    /// The last decisions.
    pub ring: Ring,
    /// What was decided, counted.
    pub metrics: RouterMetrics,
}

/// A prompt's local hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// For each block size, as the filter sends them.
    BySize(Vec<(u32, Vec<u64>)>),
    /// Of a size that the client did not say: each worker's own (the seeds).
    Unsized(Vec<u64>),
}

impl Hashes {
    /// Those of a block size.
    pub fn of(&self, size: u32) -> Option<&[u64]> {
        match self {
            Self::BySize(all) => {
                all.iter().find(|(known, _)| *known == size).map(|(_, hashes)| hashes.as_slice())
            }
            Self::Unsized(hashes) => Some(hashes),
        }
    }
}

/// What is to be decided.
#[derive(Clone, Debug)]
pub struct Question {
    /// The request's id.
    pub request_id: String,
    /// The base model by position; none asks among all workers.
    pub model: Option<usize>,
    /// Length of the prompt in tokens.
    pub tokens: u64,
    /// The prompt's hashes.
    pub hashes: Hashes,
    /// Another policy than the configured one.
    pub policy: Option<String>,
    /// The worker that the client insists on.
    pub pin: Option<Pin>,
    /// Workers that must not be chosen.
    pub exclude: Vec<String>,
    /// Whether the decision carries all scores.
    pub explain: bool,
    /// Digest of all token ids.
    pub token_digest: Option<u64>,
}

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No model of that name.
    #[error("no model, alias or adapter {0:?}; GET /v1/manifest lists them")]
    UnknownModel(String),
    /// A key of `hashes` is not a block size.
    #[error("hashes: {0:?} is not a block size in tokens")]
    BlockSize(String),
    /// No policy of that name.
    #[error("no policy {0:?}; known are {known}", known = policy::names().join(", "))]
    UnknownPolicy(String),
    /// The pinned worker can not take the request.
    #[error("pinned worker {0:?} {1}")]
    Pin(String, &'static str),
    /// Nobody can take the request.
    #[error("no worker is up for the request")]
    NoWorker,
}

impl RouteError {
    /// The code of the error's body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel(_) => code::UNKNOWN_MODEL,
            Self::BlockSize(_) => code::BAD_REQUEST,
            Self::UnknownPolicy(_) => code::UNKNOWN_POLICY,
            Self::Pin(..) => code::PIN_UNAVAILABLE,
            Self::NoWorker => code::NO_WORKER,
        }
    }
}

/// A candidate's worker and rank, beside what the policy sees of it.
#[derive(Clone, Copy)]
struct Seat<'v> {
    worker: &'v Arc<Worker>,
    rank: &'v Rank,
}

impl Router {
    /// A router that decides by `policy`.
    pub fn new(
        fleet: Arc<Fleet>,
        names: Arc<Names>,
        policy: &'static dyn Policy,
        decisions: usize,
    ) -> Self {
        Self { fleet, names, policy, ring: Ring::new(decisions), metrics: RouterMetrics::new() }
    }

    /// The question that a request of the API is.
    pub fn question(&self, request: RouteRequest) -> Result<Question, RouteError> {
        let Some((model, _)) = self.names.find(&request.model) else {
            return Err(RouteError::UnknownModel(request.model));
        };
        let hashes = sized(request.hashes)?;
        Ok(Question {
            request_id: request.request_id,
            model: Some(model),
            tokens: request.tokens,
            hashes,
            policy: request.policy,
            pin: request.pin,
            exclude: request.exclude,
            explain: request.explain,
            token_digest: request.token_digest.map(|digest| digest.0),
        })
    }

    /// Decides, books and remembers.
    ///
    /// `started` is when the work on the request began; the decision's time is
    /// measured from there.
    pub fn decide(&self, question: Question, started: Instant) -> Result<Arc<Record>, RouteError> {
        let policy = match &question.policy {
            Some(name) => {
                policy::find(name).ok_or_else(|| RouteError::UnknownPolicy(name.clone()))?
            }
            None => self.policy,
        };
        let view = self.fleet.view();
        let workers = question.model.map_or(view.workers(), |model| view.of_model(model));
        let seats = seats(workers, &question)?;
        let candidates = self.candidates(&seats, &question.hashes, started);

        let mut scores = Vec::with_capacity(candidates.len());
        policy.score(question.tokens, &candidates, &mut scores);
        // A broken score must lose, and must not break the comparison of others.
        scores.resize(candidates.len(), f64::NEG_INFINITY);
        scores.iter_mut().filter(|score| score.is_nan()).for_each(|nan| *nan = f64::NEG_INFINITY);

        let chosen = best(&seats, &scores, &[]).ok_or(RouteError::NoWorker)?;
        let (seat, candidate) = (seats[chosen], candidates[chosen]);
        seat.rank.load.book(started);
        let hashes = question.hashes.of(candidate.block_size).unwrap_or(&[]);
        let total = match (hashes.len(), u64::from(candidate.block_size)) {
            (0, size) if size > 0 => question.tokens / size,
            (blocks, _) => blocks as u64,
        };
        let reason = match (&question.pin, candidate.overlap_blocks) {
            (Some(_), _) => Reason::Pinned,
            (None, 0) => Reason::Load,
            (None, _) => Reason::Prefix,
        };
        let scored: Vec<_> = record::scored(&seats, &candidates, &scores);
        let decision = Decision {
            worker: seat.worker.name.to_string(),
            rank: seat.rank.rank,
            ranks: seat.worker.config.ranks,
            endpoint: seat.worker.config.endpoint.clone(),
            cluster: seat.worker.config.cluster.clone(),
            fallbacks: fallbacks(&seats, &scores, seat.worker.id),
            overlap_blocks: candidate.overlap_blocks,
            total_blocks: u32::try_from(total).unwrap_or(u32::MAX),
            block_size: candidate.block_size,
            reason,
            index_age_ms: seat.rank.status.last_event().map(|at| millis(started, at)),
            scores: question.explain.then(|| record::best_first(&scored)),
        };
        let took = started.elapsed();
        self.count(seat, candidate, &question, reason, took);
        let record = Arc::new(Record {
            request_id: record::kept(&question.request_id).to_owned(),
            at: SystemTime::now(),
            model: question.model.map(|model| self.names.name(model).to_owned()),
            tokens: question.tokens,
            // Some 5 ns a block: as much as all else for a long prompt.
            last_sequence_hash: question.explain.then(|| last_sequence_hash(hashes)).flatten(),
            token_digest: question.token_digest,
            decision,
            candidates: scored,
            took,
        });
        self.ring.push(Arc::clone(&record));
        Ok(record)
    }

    /// What the policy sees: for each seat its overlap and its load.
    fn candidates(&self, seats: &[Seat<'_>], hashes: &Hashes, now: Instant) -> Vec<Candidate> {
        let mut at = HashMap::with_capacity(seats.len());
        let mut candidates: Vec<Candidate> = seats
            .iter()
            .enumerate()
            .map(|(position, seat)| {
                at.insert(seat.worker.holder(seat.rank.rank), position);
                Candidate {
                    overlap_blocks: 0,
                    block_size: seat.worker.block_size(seat.rank),
                    load: seat.rank.load.load(now),
                }
            })
            .collect();
        match hashes {
            Hashes::Unsized(hashes) => self.look_up(hashes, None, &at, &mut candidates),
            Hashes::BySize(all) => {
                for (size, hashes) in all {
                    if candidates.iter().any(|candidate| candidate.block_size == *size) {
                        self.look_up(hashes, Some(*size), &at, &mut candidates);
                    }
                }
                let known = |one: &&Candidate| {
                    one.block_size > 0 && all.iter().all(|(size, _)| *size != one.block_size)
                };
                let unmatched = candidates.iter().filter(known).count();
                self.metrics.block_size_missing(unmatched);
            }
        }
        candidates
    }

    /// Writes what the index knows into the candidates of that block size.
    fn look_up(
        &self,
        hashes: &[u64],
        size: Option<u32>,
        at: &HashMap<Holder, usize>,
        candidates: &mut [Candidate],
    ) {
        for found in self.fleet.index().find_matches(hashes) {
            let Some(&position) = at.get(&found.holder) else { continue };
            let candidate = &mut candidates[position];
            if size.is_none_or(|size| size == candidate.block_size) {
                candidate.overlap_blocks = found.blocks;
            }
        }
    }

    fn count(
        &self,
        seat: Seat<'_>,
        candidate: Candidate,
        question: &Question,
        reason: Reason,
        took: std::time::Duration,
    ) {
        seat.rank.decisions.fetch_add(1, Ordering::Relaxed);
        seat.rank.prompt_tokens.fetch_add(question.tokens, Ordering::Relaxed);
        seat.rank.overlap_tokens.fetch_add(candidate.overlap_tokens(), Ordering::Relaxed);
        self.metrics.decided(reason, took);
    }
}

/// The hashes of a request by block size.
pub fn sized(
    hashes: std::collections::BTreeMap<String, Vec<warmpath_protocol::Hash>>,
) -> Result<Hashes, RouteError> {
    let mut all = Vec::with_capacity(hashes.len());
    for (key, hashes) in hashes {
        match key.parse() {
            Ok(size) if size > 0 => all.push((size, hashes.into_iter().map(|h| h.0).collect())),
            _ => return Err(RouteError::BlockSize(key)),
        }
    }
    Ok(Hashes::BySize(all))
}

/// Every (worker, rank) that may be chosen.
fn seats<'v>(workers: &'v [Arc<Worker>], question: &Question) -> Result<Vec<Seat<'v>>, RouteError> {
    let excluded = |worker: &Worker| question.exclude.iter().any(|id| **id == *worker.name);
    if let Some(pin) = &question.pin {
        let refuse = |why| Err(RouteError::Pin(pin.worker.clone(), why));
        let named = |name: &str| workers.iter().find(|worker| *worker.name == *name);
        // A worker's id may itself end in a colon and digits.
        let found = named(&String::from(pin.clone())).map(|worker| (worker, None));
        let Some((worker, rank)) = found.or_else(|| Some((named(&pin.worker)?, pin.rank))) else {
            return refuse("does not exist or does not serve the model");
        };
        if !worker.health.is_up() {
            return refuse("is down");
        }
        if excluded(worker) {
            return refuse("is excluded by the same request");
        }
        let wanted = |seat: &&Rank| rank.is_none_or(|rank| rank == seat.rank);
        let seats: Vec<_> =
            worker.ranks.iter().filter(wanted).map(|rank| Seat { worker, rank }).collect();
        return if seats.is_empty() { refuse("has no such rank") } else { Ok(seats) };
    }
    let seats: Vec<_> = workers
        .iter()
        .filter(|worker| worker.health.is_up() && !excluded(worker))
        .flat_map(|worker| worker.ranks.iter().map(move |rank| Seat { worker, rank }))
        .collect();
    if seats.is_empty() { Err(RouteError::NoWorker) } else { Ok(seats) }
}

/// The seat of the greatest score, at random among equals, of other workers
/// than those to skip.
fn best(seats: &[Seat<'_>], scores: &[f64], skip: &[WorkerId]) -> Option<usize> {
    let mut found: Option<usize> = None;
    let mut equals = 0_u32;
    for (at, (seat, score)) in seats.iter().zip(scores).enumerate() {
        if skip.contains(&seat.worker.id) {
            continue;
        }
        match found {
            Some(best) if *score < scores[best] => {}
            Some(best) if *score == scores[best] => {
                // Each of n equals stays with probability 1/n.
                equals += 1;
                if rand::random_range(0..equals) == 0 {
                    found = Some(at);
                }
            }
            _ => {
                found = Some(at);
                equals = 1;
            }
        }
    }
    found
}

/// Endpoints of other workers, best first.
fn fallbacks(seats: &[Seat<'_>], scores: &[f64], chosen: WorkerId) -> Vec<String> {
    let mut skip = vec![chosen];
    let mut endpoints = Vec::with_capacity(FALLBACKS);
    while endpoints.len() < FALLBACKS
        && let Some(next) = best(seats, scores, &skip)
    {
        skip.push(seats[next].worker.id);
        endpoints.push(seats[next].worker.config.endpoint.clone());
    }
    endpoints
}

fn last_sequence_hash(local: &[u64]) -> Option<u64> {
    let (first, rest) = local.split_first()?;
    Some(rest.iter().fold(*first, |before, hash| warmpath_blocks::sequence_hash(before, *hash)))
}

fn millis(now: Instant, then: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
