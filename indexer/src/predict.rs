/*!
What workers will soon hold because a request was sent to them.

Events tell what a worker holds; where there are none, what was routed to it is the
best guess, and Dynamo's approximate mode is that guess with an expiry. Here it is a
claim of its own in the one index, so that a fleet may have workers of both kinds,
and a decision can say how much of an overlap is only predicted.

Two uses, two times:

- A worker *without* events, or whose events fail, counts as holding what was routed to it for `ttl_ms`,
  and never more blocks than its cache has: beyond that the least recently routed go
  first, the ends of prompts before their beginnings, as an engine evicts. How large
  its cache is, its metrics page says, or the configuration.
- A worker *with* events may be predicted for a moment (`beside_events_ms`), until
  its event takes the prediction's place. Off by default: the in-flight book knows
  what requests in flight will leave, `ttft` counts it as held, and a request that
  has ended has had its events. `docs/policies.md` has the figures.

A prediction made again is prolonged. Times are rounded to a 64th of their length: a
hot prefix that is routed a thousand times a second is entered anew 64 times in all.

A worker without events that is down forgets its predictions: an engine that comes
back comes back empty. Timers are the caller's, so that the same runs in virtual time.
*/

use std::time::{Duration, Instant};

use warmpath_radix::Index;

use crate::fleet::{Fleet, Rank, Worker};

/// Parts of a time that are told apart.
const PARTS: u64 = 64;
/// How long to wait between two looks at what has expired.
pub const LOOK: Duration = Duration::from_millis(100);

/// For how long predictions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictConfig {
    /// Milliseconds for which a worker whose events are not followed counts as holding
    /// what was routed to it; 0 never. Default 120000, as in Dynamo.
    pub ttl_ms: u64,
    /// Milliseconds for which any other worker does, unless its events come first;
    /// 0 never. Default 0.
    pub beside_events_ms: u64,
}

impl Default for PredictConfig {
    fn default() -> Self {
        Self { ttl_ms: 120_000, beside_events_ms: 0 }
    }
}

/// Predicts from decisions.
#[derive(Debug)]
pub struct Predictor {
    config: PredictConfig,
    epoch: Instant,
}

impl Predictor {
    /// One that has predicted nothing.
    pub fn new(config: PredictConfig) -> Self {
        Self { config, epoch: Instant::now() }
    }

    /// Expects a worker to hold a prompt that was just routed to it.
    ///
    /// `hashes` are of the worker's own block size.
    pub fn routed(
        &self,
        index: &Index,
        worker: &Worker,
        rank: &Rank,
        hashes: &[u64],
        now: Instant,
    ) {
        let follows = worker.is_told(rank);
        let ttl = if follows { self.config.beside_events_ms } else { self.config.ttl_ms };
        if ttl == 0 || hashes.is_empty() {
            return;
        }
        let part = (ttl / PARTS).max(1);
        let expires = (self.millis(now) + ttl).next_multiple_of(part);
        let holder = worker.holder(rank.rank);
        index.predict(holder, hashes, expires);
        // Events tell of what such a worker evicts.
        if let Some(most) = worker.kv_blocks(rank).filter(|_| !follows)
            && index.predicted(holder) > most
        {
            index.trim_predicted(holder, most);
        }
    }

    /// Lets go of what has expired, and of what workers that are down had.
    pub fn expire(&self, fleet: &Fleet, now: Instant) {
        fleet.index().expire(self.millis(now));
        for worker in fleet.view().workers() {
            if !worker.follows_events() && !worker.health.is_up() {
                worker.ranks.iter().for_each(|rank| {
                    fleet.index().clear(worker.holder(rank.rank));
                });
            }
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
