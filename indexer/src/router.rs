/*!
The read path: a route request to a decision.

Everything here is synchronous and runs on the thread that parsed the request:
find the candidates, look up what they hold, let the policy score them, book the
choice. A queue in front of a router thread was rejected, it would make every
decision wait for two wake-ups to save a lock that is held for nanoseconds.

A decision is booked before it is answered (see [`crate::book`]); two decisions at
the same moment may still choose the same worker, each knowing nothing of the
other. That costs balance, never correctness.
*/

mod metrics;
mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use hashbrown::HashMap;
use parking_lot::RwLock;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use warmpath_protocol::{Decision, Pin, Reason, RouteRequest, Score, code};
use warmpath_radix::{Holder, WorkerId};

pub use metrics::RouterMetrics;
pub use record::{Record, Ring};

use crate::book::Entry;
use crate::fleet::{Fleet, Rank, Worker};
use crate::models::Names;
use crate::policy::{Candidate, Policies, Prompt, UnknownPolicy};

/// How many endpoints follow the chosen one.
const FALLBACKS: usize = 2;

/// Makes decisions.
pub struct Router {
    fleet: Arc<Fleet>,
    names: Arc<Names>,
    policies: RwLock<Arc<Policies>>,
    /// Seed of every lot, and how many decisions drew.
    seed: u64,
    draws: AtomicU64,
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

    /// Those of whatever size comes first: prompts with a common prefix have one here.
    pub fn any(&self) -> &[u64] {
        match self {
            Self::BySize(all) => all.first().map_or(&[], |(_, hashes)| hashes),
            Self::Unsized(hashes) => hashes,
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
    #[error(transparent)]
    UnknownPolicy(#[from] UnknownPolicy),
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
    /// A router that decides by the policy that is configured among these.
    pub fn new(fleet: Arc<Fleet>, names: Arc<Names>, policies: Policies, decisions: usize) -> Self {
        Self {
            fleet,
            names,
            seed: policies.settings().seed.unwrap_or_else(rand::random),
            policies: RwLock::new(Arc::new(policies)),
            draws: AtomicU64::new(0),
            ring: Ring::new(decisions),
            metrics: RouterMetrics::new(),
        }
    }

    /// The policies now.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read())
    }

    /// Decides by other policies from the next decision on; the seed stays.
    pub fn set_policies(&self, policies: Policies) {
        *self.policies.write() = Arc::new(policies);
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
        let policies = self.policies();
        let named = question.policy.as_deref();
        let unknown = || UnknownPolicy(named.unwrap_or_default().to_owned());
        let policy = policies.get(named).ok_or_else(unknown)?;
        let view = self.fleet.view();
        let workers = question.model.map_or(view.workers(), |model| view.of_model(model));
        let seats = seats(workers, &question)?;
        let candidates = self.candidates(&seats, &question.hashes, started);

        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        let mut dice = SmallRng::seed_from_u64(self.seed.wrapping_add(draw));
        let tracks_prefill = self.fleet.book().config().track_prefill_tokens;
        let prompt = Prompt { tokens: question.tokens, tracks_prefill };
        let mut scores = Vec::with_capacity(candidates.len());
        policy.score(prompt, &candidates, &mut dice, &mut scores);
        mend(&mut scores, candidates.len());

        let chosen = best(&seats, &scores, &[], &mut dice).ok_or(RouteError::NoWorker)?;
        let (seat, candidate) = (seats[chosen], candidates[chosen]);
        let hashes = question.hashes.of(candidate.block_size).unwrap_or(&[]);
        self.book(seat, candidate, &question, hashes, started);
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
            fallbacks: fallbacks(&seats, &scores, seat.worker.id, &mut dice),
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
                    block_size: seat.worker.block_size(seat.rank),
                    load: seat.rank.load.load(now),
                    in_flight: self.fleet.book().in_flight(&seat.rank.book, now),
                    turn: seat.rank.turn.load(Ordering::Relaxed),
                    ..Candidate::default()
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
        if self.fleet.book().config().track_active_blocks {
            self.look_at_active(seats, hashes, &at, &mut candidates);
        }
        candidates
    }

    /// Writes what requests in flight use into the candidates.
    fn look_at_active(
        &self,
        seats: &[Seat<'_>],
        hashes: &Hashes,
        at: &HashMap<Holder, usize>,
        candidates: &mut [Candidate],
    ) {
        let book = self.fleet.book();
        let output = book.config().track_output_blocks;
        let active = book.active();
        let mut share = |size: Option<u32>, hashes: &[u64]| {
            active.matches(hashes, |holder, blocks, uses| {
                let Some(&position) = at.get(&holder) else { return };
                if size.is_none_or(|size| size == candidates[position].block_size) {
                    candidates[position].shared_blocks = blocks;
                    candidates[position].shared_by = uses;
                }
            });
        };
        match hashes {
            Hashes::Unsized(hashes) => share(None, hashes),
            Hashes::BySize(all) => {
                all.iter().for_each(|(size, hashes)| share(Some(*size), hashes));
            }
        }
        for (seat, candidate) in seats.iter().zip(candidates) {
            candidate.active_blocks = active.at(seat.worker.holder(seat.rank.rank)) as f64;
            if output && candidate.block_size > 0 {
                let size = f64::from(candidate.block_size);
                candidate.active_blocks += candidate.in_flight.output_tokens / size;
            }
            let blocks = hashes.of(candidate.block_size).map_or(0, <[u64]>::len) as f64;
            candidate.new_blocks = (blocks - f64::from(candidate.shared_blocks)).max(0.0);
        }
    }

    /// Counts the decision in, before anybody hears of it.
    fn book(
        &self,
        seat: Seat<'_>,
        candidate: Candidate,
        question: &Question,
        hashes: &[u64],
        now: Instant,
    ) {
        let entry = Entry {
            request_id: &question.request_id,
            hashes,
            tokens: question.tokens,
            cached: question.tokens - candidate.to_prefill(question.tokens) as u64,
        };
        self.fleet.book().book(&seat.rank.book, entry, now);
        seat.rank.load.book(now);
        let turn = self.draws.load(Ordering::Relaxed);
        seat.rank.turn.store(turn, Ordering::Relaxed);
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
                candidate.host_blocks = found.host - found.blocks;
                candidate.disk_blocks = found.disk - found.host;
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

/// A broken score must lose, and must not break the comparison of others.
fn mend(scores: &mut Vec<f64>, candidates: usize) {
    scores.resize(candidates, f64::NEG_INFINITY);
    scores.iter_mut().filter(|score| score.is_nan()).for_each(|nan| *nan = f64::NEG_INFINITY);
}

/// The seat of the greatest score, at random among equals, of other workers
/// than those to skip.
fn best(
    seats: &[Seat<'_>],
    scores: &[f64],
    skip: &[WorkerId],
    dice: &mut SmallRng,
) -> Option<usize> {
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
                if dice.random_range(0..equals) == 0 {
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
fn fallbacks(
    seats: &[Seat<'_>],
    scores: &[f64],
    chosen: WorkerId,
    dice: &mut SmallRng,
) -> Vec<String> {
    let mut skip = vec![chosen];
    let mut endpoints = Vec::with_capacity(FALLBACKS);
    while endpoints.len() < FALLBACKS
        && let Some(next) = best(seats, scores, &skip, dice)
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
