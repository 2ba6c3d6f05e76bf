/*!
What the filter counts, under `wasmcustom.` in Envoy's statistics.

Envoy's Wasm metrics have no labels: a label is a part of the name, which a
`stats_tags` entry of the bootstrap cuts out again:

```yaml
stats_config:
  stats_tags:
  - tag_name: reason
    regex: "^wasmcustom\\.warmpath_.+(\\.reason\\.([a-z0-9_-]+))$"
```

so that `warmpath_requests_total.reason.prefix` is Prometheus's
`warmpath_requests_total{reason="prefix"}`. Reasons are those of
[`Outcome`](crate::reason::Outcome): `prefix`, `load`, `pinned`,
`fallback-…`, `client_gone`; none comes from a request's content.

Histograms hold whole numbers without a unit in Envoy, so durations are in
microseconds and named so; seconds would all be 0. Envoy's default buckets
(0.5 to 3,600,000) fit microseconds tolerably; finer ones are set with
`stats_config.histogram_bucket_settings` and a match on
`wasmcustom.warmpath_`.

What every routed request counts waits in the VM for the next tick: a host call each
while the request is held would be a tenth of what it is held for.
*/

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::{Host, MetricKind};

/// Requests that were ours to handle, by `.reason.`.
pub const REQUESTS: &str = "warmpath_requests_total";
/// From the end of a request's body to its decision: all that Warmpath adds.
pub const DECISION: &str = "warmpath_decision_microseconds";
/// The part of it before the call: render, tokenize, hash, and the turns of others.
pub const PROMPT: &str = "warmpath_prompt_microseconds";
/// Tokens of the prompts that were tokenized.
pub const TOKENS: &str = "warmpath_tokens_total";
/// Those of them that were known from earlier prompts.
pub const REUSED_TOKENS: &str = "warmpath_reused_tokens_total";
/// Prompts that were hashed up to a cut, by `.reason.`: `token_cap`, `media`, ….
pub const CUTS: &str = "warmpath_cuts_total";
/// Bytes of the bodies whose prompts were worked on.
pub const BYTES: &str = "warmpath_body_bytes_total";
/// Every callback in which a prompt or a model's file was worked on, but for those that
/// only read some kilobytes: for so long Envoy's worker thread served nobody else.
pub const CALLBACK: &str = "warmpath_callback_microseconds";
/// VMs whose breaker is open.
pub const BREAKER_OPEN: &str = "warmpath_breaker_open";
/// Models ready to tokenize, summed over VMs.
pub const MODELS_READY: &str = "warmpath_models_ready";
/// Models being loaded, summed over VMs.
pub const MODELS_LOADING: &str = "warmpath_models_loading";
/// Models whose files came and could not be used.
pub const MODEL_FAILURES: &str = "warmpath_model_failures_total";
/// Manifest and file fetches that failed, by `.reason.`.
pub const FETCH_FAILURES: &str = "warmpath_fetch_failures_total";

/// Reports of answers that the indexer did not get, by `.reason.`: `queue_full`, `call`.
pub const REPORTS_LOST: &str = "warmpath_lifecycle_lost_total";

/// So many values wait for a tick at most.
const MAX_WAITING: usize = 512;

/// The metrics of one VM: ids by name, and what this VM added to each gauge.
#[derive(Debug, Default)]
pub struct Metrics {
    ids: BTreeMap<String, u32>,
    gauges: BTreeMap<&'static str, i64>,
    /// Counters, by name and reason, that wait for [`flush`](Self::flush).
    counts: BTreeMap<(&'static str, &'static str), u64>,
    /// Histograms' values that do.
    times: Vec<(&'static str, Duration)>,
}

impl Metrics {
    /// Adds to a counter.
    pub fn count(&mut self, host: &dyn Host, name: &str, by: u64) {
        if let Some(id) = self.id(host, MetricKind::Counter, name) {
            // A refused number has no one to be reported to; traffic matters more.
            let _unheard = host.add_to_metric(id, i64::try_from(by).unwrap_or(i64::MAX));
        }
    }

    /// Adds one to the counter `name` with this reason.
    pub fn count_reason(&mut self, host: &dyn Host, name: &str, reason: &str) {
        self.count_reasons(host, name, reason, 1);
    }

    /// Adds to the counter `name` with this reason.
    pub fn count_reasons(&mut self, host: &dyn Host, name: &str, reason: &str, by: u64) {
        self.count(host, &format!("{name}.reason.{reason}"), by);
    }

    /// Adds to the counter `name`, with this reason or "", at the next tick.
    pub fn count_later(&mut self, name: &'static str, reason: &'static str, by: u64) {
        let count = self.counts.entry((name, reason)).or_default();
        *count = count.saturating_add(by);
    }

    /// Records a duration in microseconds, at the next tick.
    pub fn time_later(&mut self, host: &dyn Host, name: &'static str, duration: Duration) {
        self.times.push((name, duration));
        if self.times.len() >= MAX_WAITING {
            self.flush(host);
        }
    }

    /// Whether something waits for a tick.
    pub fn is_waiting(&self) -> bool {
        !self.times.is_empty() || !self.counts.is_empty()
    }

    /// Hands over what waits.
    pub fn flush(&mut self, host: &dyn Host) {
        for ((name, reason), by) in std::mem::take(&mut self.counts) {
            match reason {
                "" => self.count(host, name, by),
                _ => self.count_reasons(host, name, reason, by),
            }
        }
        let mut times = std::mem::take(&mut self.times);
        for (name, duration) in times.drain(..) {
            if let Some(id) = self.id(host, MetricKind::Histogram, name) {
                let _unheard = host.record_in_metric(id, microseconds(duration));
            }
        }
        self.times = times;
    }

    /// Makes this VM's share of a gauge `value`. All VMs share the gauge, so
    /// only the difference to the last share is sent.
    pub fn set(&mut self, host: &dyn Host, name: &'static str, value: i64) {
        let before = self.gauges.insert(name, value).unwrap_or(0);
        let difference = value.saturating_sub(before);
        if difference == 0 {
            return;
        }
        if let Some(id) = self.id(host, MetricKind::Gauge, name) {
            let _unheard = host.add_to_metric(id, difference);
        }
    }

    /// Hands over what waits and takes this VM's shares out of all gauges, when it goes.
    pub fn withdraw(&mut self, host: &dyn Host) {
        self.flush(host);
        for name in self.gauges.keys().copied().collect::<Vec<_>>() {
            self.set(host, name, 0);
        }
    }

    fn id(&mut self, host: &dyn Host, kind: MetricKind, name: &str) -> Option<u32> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let id = host.define_metric(kind, name).ok()?;
        self.ids.insert(name.to_owned(), id);
        Some(id)
    }
}

/// Whole microseconds.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
