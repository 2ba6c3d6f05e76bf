/*!
When workers are busy, and what becomes of requests while all of them are.

Thresholds say what busy is, under Dynamo's names; without one no worker ever is. A
busy worker is passed over while another is not. When all that could take a request
are busy, the operator chooses: route it all the same, since the engines have queues of their
own (the default); hold it here for a moment, until a worker gets free; or refuse it with 503 and
`retry-after`, so that whoever asks goes elsewhere. To refuse is the one way in
which a request fails because of us, and only because that was asked for.

Why hold at all: an engine's queue is first come first served and for good, and a
request in it has missed every worker that gets free meanwhile. Held here it goes
to the first that does, in the order of the operator's choosing, and is scored
again with what the index knows by then. The hold is bounded in time and number:
what is held is a request whose body waits in Envoy.

Who is free is looked at when a request's life moves on and every few
milliseconds while any is held; engines' own reports come by no other way. To compute
when a worker will be free was rejected: the estimate is wrong exactly when it matters.
*/

mod queue;

use std::time::Duration;

pub(crate) use queue::{Queue, Waiting};

use crate::fleet::Worker;
use crate::policy::Candidate;

/// The order in which held requests go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueuePolicy {
    /// First come, first served.
    #[default]
    Fcfs,
    /// The least to prefill by priority first (weighted shortest processing time).
    Wspt,
}

/// When a worker is busy, and what to do when all are.
#[derive(Clone, Debug, PartialEq)]
pub struct SaturationConfig {
    /// Share of the KV cache in use above which a worker is busy, by the blocks in flight or
    /// by its own report. Default none.
    pub active_decode_blocks_threshold: Option<f64>,
    /// Tokens still to prefill above which a worker is busy. Default none.
    pub active_prefill_tokens_threshold: Option<f64>,
    /// The same as a multiple of the worker's `max_num_batched_tokens`. Default none.
    pub active_prefill_tokens_threshold_frac: Option<f64>,
    /// Milliseconds that a request may be held while all workers are busy; 0 holds none. Default 0.
    pub hold_ms: u64,
    /// Most requests held at a time. Default 256.
    pub max_held: usize,
    /// The order in which they go. Default `fcfs`.
    pub queue_policy: QueuePolicy,
    /// Milliseconds of waiting that count for a held request under `wspt` as much as a
    /// priority of one more. Default 1000.
    pub ageing_ms: u64,
    /// Whether a request that may not be held (any longer) is refused. Default false: it is routed.
    pub refuse: bool,
    /// Seconds that a refusal asks to wait. Default 1.
    pub retry_after_s: u64,
}

impl Default for SaturationConfig {
    fn default() -> Self {
        Self {
            active_decode_blocks_threshold: None,
            active_prefill_tokens_threshold: None,
            active_prefill_tokens_threshold_frac: None,
            hold_ms: 0,
            max_held: 256,
            queue_policy: QueuePolicy::Fcfs,
            ageing_ms: 1000,
            refuse: false,
            retry_after_s: 1,
        }
    }
}

impl SaturationConfig {
    /// Whether a worker can be busy at all.
    pub fn has_threshold(&self) -> bool {
        self.active_decode_blocks_threshold.is_some()
            || self.active_prefill_tokens_threshold.is_some()
            || self.active_prefill_tokens_threshold_frac.is_some()
    }

    /// How long a request may be held.
    pub fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }

    /// Whether a worker has as much to do as it should.
    pub(crate) fn is_busy(
        &self,
        worker: &Worker,
        kv_blocks: Option<usize>,
        one: &Candidate,
    ) -> bool {
        let above = |value: f64, threshold: Option<f64>| threshold.is_some_and(|most| value > most);
        let used = kv_blocks.map_or(0.0, |blocks| one.active_blocks / blocks.max(1) as f64);
        let batches = worker
            .config
            .max_num_batched_tokens
            .map_or(0.0, |batch| one.in_flight.prefill_tokens / batch.max(1) as f64);
        above(used.max(one.load.kv_usage), self.active_decode_blocks_threshold)
            || above(one.in_flight.prefill_tokens, self.active_prefill_tokens_threshold)
            || above(batches, self.active_prefill_tokens_threshold_frac)
    }
}
