//! Flags under the names that Dynamo's router has for them.
//!
//! They shape the policy `cost`, the in-flight book, what is predicted and what is kept. One that is about
//! Dynamo's message broker has nothing to do here and is taken silently, so
//! that a command line that worked goes on working.

use clap::Args;
use serde_json::{Map, Value, json};

use super::flags::merge;

/// The flags of Dynamo's router.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "As Dynamo's router has them")]
pub struct DynamoFlags {
    /// Weight of prefill in the policy cost; 0 gives no credit for the cache either [default: 1]
    #[arg(
        long,
        visible_alias = "router-kv-overlap-score-weight",
        env = "WARMPATH_KV_OVERLAP_SCORE_WEIGHT",
        value_name = "WEIGHT"
    )]
    pub kv_overlap_score_weight: Option<f64>,
    /// Softmax temperature of the policy cost; 0 takes the cheapest worker [default: 0]
    #[arg(long, env = "WARMPATH_ROUTER_TEMPERATURE", value_name = "TEMPERATURE")]
    pub router_temperature: Option<f64>,
    /// Do not count the blocks of requests in flight; for workers that only prefill
    #[arg(
        long,
        visible_alias = "no-router-track-active-blocks",
        env = "WARMPATH_NO_TRACK_ACTIVE_BLOCKS"
    )]
    pub no_track_active_blocks: bool,
    /// Do not follow KV events: what was routed to a worker counts as held for a while
    #[arg(
        long,
        visible_alias = "no-router-kv-events",
        overrides_with = "kv_events",
        env = "WARMPATH_NO_KV_EVENTS"
    )]
    pub no_kv_events: bool,
    /// Follow KV events, as is the default
    #[arg(long, visible_alias = "router-kv-events")]
    pub kv_events: bool,
    /// How long a worker without events counts as holding what was routed to it [default: 120]
    #[arg(long, env = "WARMPATH_ROUTER_TTL_SECS", value_name = "SECONDS")]
    pub router_ttl_secs: Option<f64>,
    /// The same for workers with events, until those come [default: 0, never]
    #[arg(long, env = "WARMPATH_ROUTER_PREDICTED_TTL_SECS", value_name = "SECONDS")]
    pub router_predicted_ttl_secs: Option<f64>,
    /// Share of its KV cache in use above which a worker is busy [default: none]
    #[arg(long, env = "WARMPATH_ACTIVE_DECODE_BLOCKS_THRESHOLD", value_name = "SHARE")]
    pub active_decode_blocks_threshold: Option<f64>,
    /// Tokens to prefill above which a worker is busy [default: none]
    #[arg(long, env = "WARMPATH_ACTIVE_PREFILL_TOKENS_THRESHOLD", value_name = "TOKENS")]
    pub active_prefill_tokens_threshold: Option<f64>,
    /// The same as a multiple of the worker's max_num_batched_tokens [default: none]
    #[arg(long, env = "WARMPATH_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC", value_name = "SHARE")]
    pub active_prefill_tokens_threshold_frac: Option<f64>,
    /// The order in which held requests go: fcfs or wspt [default: fcfs]
    #[arg(long, env = "WARMPATH_ROUTER_QUEUE_POLICY", value_name = "NAME")]
    pub router_queue_policy: Option<String>,
    /// Leave unread what --index-snapshot has at the start
    #[arg(long, env = "WARMPATH_ROUTER_RESET_STATES")]
    pub router_reset_states: bool,
    /// Batches of events after which --index-snapshot is written anew [default: 10000]
    #[arg(long, env = "WARMPATH_ROUTER_SNAPSHOT_THRESHOLD", value_name = "MESSAGES")]
    pub router_snapshot_threshold: Option<u64>,
    /// Taken without effect: each indexer follows every worker itself
    #[arg(long)]
    pub router_replica_sync: bool,
}

impl DynamoFlags {
    /// Lays these flags over the tree of the file.
    pub(super) fn over(&self, root: &mut Map<String, Value>) {
        let mut cost = Map::new();
        if let Some(weight) = self.kv_overlap_score_weight {
            cost.insert("prefill_load_scale".to_owned(), json!(weight));
            if weight == 0.0 {
                cost.insert("overlap_score_credit".to_owned(), json!(0.0));
            }
        }
        if let Some(temperature) = self.router_temperature {
            cost.insert("temperature".to_owned(), json!(temperature));
        }
        let lay = |root: &mut Map<String, Value>, name: &str, value: Value| {
            merge(root.entry(name).or_insert_with(|| json!({})), value);
        };
        if !cost.is_empty() {
            lay(root, "policies", json!({ "cost": cost }));
            // Who shapes Dynamo's formula means it, unless they name another.
            root.entry("policy").or_insert_with(|| json!("cost"));
        }
        if self.router_reset_states {
            lay(root, "index", json!({ "reset": true }));
        }
        if let Some(batches) = self.router_snapshot_threshold {
            lay(root, "index", json!({ "snapshot_threshold": batches }));
        }
        if self.no_track_active_blocks {
            lay(root, "book", json!({ "track_active_blocks": false }));
        }
        for (name, threshold) in [
            ("active_decode_blocks_threshold", self.active_decode_blocks_threshold),
            ("active_prefill_tokens_threshold", self.active_prefill_tokens_threshold),
            ("active_prefill_tokens_threshold_frac", self.active_prefill_tokens_threshold_frac),
        ] {
            if let Some(threshold) = threshold {
                lay(root, "saturation", json!({ name: threshold }));
            }
        }
        if let Some(policy) = &self.router_queue_policy {
            lay(root, "saturation", json!({ "queue_policy": policy }));
        }
        if self.no_kv_events || self.kv_events {
            root.insert("kv_events".to_owned(), json!(!self.no_kv_events));
        }
        for (name, seconds) in
            [("ttl_ms", self.router_ttl_secs), ("beside_events_ms", self.router_predicted_ttl_secs)]
        {
            if let Some(seconds) = seconds {
                lay(root, "predict", json!({ name: milliseconds(seconds) }));
            }
        }
    }
}

/// What is no time is left as it is, so that the reader of the configuration reports it.
fn milliseconds(seconds: f64) -> Value {
    let millis = (seconds * 1000.0).round();
    if (0.0..1e15).contains(&millis) { json!(millis as u64) } else { json!(seconds) }
}
