//! What was decided, counted.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use warmpath_protocol::Reason;

const REASONS: [Reason; 3] = [Reason::Prefix, Reason::Load, Reason::Pinned];

/// Counters of the router; made once, so that a decision looks nothing up.
#[derive(Debug)]
pub struct RouterMetrics {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    decisions: [(Reason, Counter); 3],
    seconds: Histogram,
    block_size_missing: Counter,
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
