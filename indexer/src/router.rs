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

mod candidates;
mod choose;
mod hold;
mod metrics;
mod question;
mod record;
mod seats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use choose::{best, fallbacks, mend, pass_over_busy};
use hold::Holding;
use parking_lot::RwLock;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use seats::{Seat, seats};
use tokio_util::sync::CancellationToken;
use warmpath_protocol::{Decision, Reason, RouteRequest};

pub use hold::{Asked, Held};
use metrics::Ending;
pub use metrics::RouterMetrics;
pub use question::{Hashes, Question, RouteError, sized};
pub use record::{Record, Ring};

use crate::book::Entry;
use crate::fleet::Fleet;
use crate::models::Names;
use crate::policy::{Candidate, Policies, Prompt, UnknownPolicy};
use crate::predict::{self, PredictConfig, Predictor};
use crate::saturation::SaturationConfig;

/// What becomes of a request while all workers are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenBusy {
    /// It goes to the best of them.
    Route,
    /// It is refused.
    Refuse,
}

/// Makes decisions.
pub struct Router {
    fleet: Arc<Fleet>,
    names: Arc<Names>,
    policies: RwLock<Arc<Policies>>,
    /// Seed of every lot, and how many decisions drew.
    seed: u64,
    draws: AtomicU64,
    predictor: Predictor,
    saturation: SaturationConfig,
    holding: Arc<Holding>,
    /// The last decisions.
    pub ring: Ring,
    /// What was decided, counted.
    pub metrics: RouterMetrics,
}

impl Router {
    /// A router that decides by the policy that is configured among these.
    pub fn new(fleet: Arc<Fleet>, names: Arc<Names>, policies: Policies, decisions: usize) -> Self {
        let metrics = RouterMetrics::new();
        Self {
            holding: Arc::new(Holding::new(Arc::clone(&fleet), metrics.holds(Ending::Gone))),
            saturation: SaturationConfig::default(),
            fleet,
            names,
            seed: policies.settings().seed.unwrap_or_else(rand::random),
            policies: RwLock::new(Arc::new(policies)),
            draws: AtomicU64::new(0),
            predictor: Predictor::new(PredictConfig::default()),
            ring: Ring::new(decisions),
            metrics,
        }
    }

    /// The same, one that predicts otherwise than by default.
    pub fn predicting(self, config: PredictConfig) -> Self {
        Self { predictor: Predictor::new(config), ..self }
    }

    /// The same, one that knows of busy workers.
    pub fn saturating(self, saturation: SaturationConfig) -> Self {
        Self { saturation, ..self }
    }

    /// Lets go of predictions whose time has come.
    pub fn expire_predictions(&self, now: Instant) {
        self.predictor.expire(&self.fleet, now);
    }

    /// Does that again and again until `stop`.
    pub async fn keep_predictions(&self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(predict::LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            self.expire_predictions(Instant::now());
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
            priority: request.priority,
        })
    }

    /// Decides, books and remembers.
    ///
    /// `started` is when the work on the request began; the decision's time is
    /// measured from there.
    pub fn decide(&self, question: Question, started: Instant) -> Result<Arc<Record>, RouteError> {
        self.settle(&question, started, self.when_busy())
    }

    /// What is done where a request may not be held.
    fn when_busy(&self) -> WhenBusy {
        if self.saturation.refuse { WhenBusy::Refuse } else { WhenBusy::Route }
    }

    fn settle(
        &self,
        question: &Question,
        started: Instant,
        when_busy: WhenBusy,
    ) -> Result<Arc<Record>, RouteError> {
        let policies = self.policies();
        let named = question.policy.as_deref();
        let unknown = || UnknownPolicy(named.unwrap_or_default().to_owned());
        let policy = policies.get(named).ok_or_else(unknown)?;
        let view = self.fleet.view();
        let workers = question.model.map_or(view.workers(), |model| view.of_model(model));
        let seats = seats(workers, question)?;
        let candidates = self.candidates(&seats, &question.hashes, started);

        let is_saturated = candidates.iter().all(|one| one.busy);
        if is_saturated && when_busy == WhenBusy::Refuse {
            return Err(RouteError::Saturated(self.saturation.retry_after_s));
        }

        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        let mut dice = SmallRng::seed_from_u64(self.seed.wrapping_add(draw));
        let tracks_prefill = self.fleet.book().config().track_prefill_tokens;
        let prompt = Prompt { tokens: question.tokens, tracks_prefill };
        let mut scores = Vec::with_capacity(candidates.len());
        policy.score(prompt, &candidates, &mut dice, &mut scores);
        mend(&mut scores, candidates.len());
        pass_over_busy(&mut scores, &candidates);

        let chosen = best(&seats, &scores, &[], &mut dice).ok_or(RouteError::NoWorker)?;
        let (seat, candidate) = (seats[chosen], candidates[chosen]);
        let hashes = question.hashes.of(candidate.block_size).unwrap_or(&[]);
        self.book(seat, candidate, question, hashes, started);
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
            predicted_blocks: candidate.predicted_blocks,
            total_blocks: u32::try_from(total).unwrap_or(u32::MAX),
            block_size: candidate.block_size,
            reason,
            index_age_ms: seat.rank.status.last_event().map(|at| millis(started, at)),
            scores: question.explain.then(|| record::best_first(&scored)),
        };
        let took = started.elapsed();
        self.count(seat, candidate, question, reason, took);
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
        self.predictor.routed(self.fleet.index(), seat.worker, seat.rank, hashes, now);
        let turn = self.draws.load(Ordering::Relaxed);
        seat.rank.turn.store(turn, Ordering::Relaxed);
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
        let predicted = u64::from(candidate.predicted_blocks) * u64::from(candidate.block_size);
        seat.rank.predicted_tokens.fetch_add(predicted, Ordering::Relaxed);
        self.metrics.decided(reason, took);
    }
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
