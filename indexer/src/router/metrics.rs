//! What was decided, counted.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use warmpath_protocol::Reason;

const REASONS: [Reason; 3] = [Reason::Prefix, Reason::Load, Reason::Pinned];

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A worker got free.
    Free,
    /// It had lasted as long as it may.
    Late,
    /// Nobody waited any more.
    Gone,
    /// It did not begin: too many were held.
    Full,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::Full => "full",
        }
    }
}

/// Counters of the router; made once, so that a decision looks nothing up.
#[derive(Debug)]
pub struct RouterMetrics {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    decisions: [(Reason, Counter); 3],
    seconds: Histogram,
    block_size_missing: Counter,
    held: Family<[(&'static str, &'static str); 1], Counter>,
    hold_seconds: Histogram,
    holding: Gauge,
}

impl RouterMetrics {
    pub(super) fn new() -> Self {
        let family = Family::default();
        let counter = |reason: Reason| family.get_or_create_owned(&[("reason", reason.as_str())]);
        Self {
            decisions: REASONS.map(|reason| (reason, counter(reason))),
            family,
            // 1 µs to 0.26 s: a decision is tens of microseconds, a stall is milliseconds.
            seconds: Histogram::new(exponential_buckets(1e-6, 2.0, 19)),
            block_size_missing: Counter::default(),
            held: Family::default(),
            // 1 ms to 16 s.
            hold_seconds: Histogram::new(exponential_buckets(1e-3, 2.0, 15)),
            holding: Gauge::default(),
        }
    }

    /// Shows the counters on `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Decisions by what decided", self.family.clone());
        registry.register(
            "decision_seconds",
            "From the first byte of a route request parsed to the decision",
            self.seconds.clone(),
        );
        registry.register(
            "decision_block_size_missing",
            "Candidates whose block size a request had no hashes for; they count as holding nothing",
            self.block_size_missing.clone(),
        );
        registry.register(
            "holds",
            "Requests held while all workers were busy, by how that ended; full: not held, for there were too many",
            self.held.clone(),
        );
        registry.register("hold_seconds", "How long requests were held", self.hold_seconds.clone());
        registry.register("held_requests", "Requests held now", self.holding.clone());
    }

    /// The count of holds that ended so.
    pub(super) fn holds(&self, ending: Ending) -> Counter {
        self.held.get_or_create_owned(&[("ending", ending.as_str())])
    }

    /// A hold ended.
    pub(super) fn held(&self, ending: Ending, after: Duration) {
        self.holds(ending).inc();
        if ending != Ending::Full {
            self.hold_seconds.observe(after.as_secs_f64());
        }
    }

    /// How many requests are held now.
    pub(super) fn waiting(&self, requests: usize) {
        self.holding.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    pub(super) fn decided(&self, reason: Reason, took: Duration) {
        if let Some((_, counter)) = self.decisions.iter().find(|(known, _)| *known == reason) {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn block_size_missing(&self, candidates: usize) {
        if candidates > 0 {
            self.block_size_missing.inc_by(candidates as u64);
        }
    }
}
