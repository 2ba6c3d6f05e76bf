//! Every parameter of every policy.

use serde::Serialize;

/// Which policy decides, and the parameters of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Name of the policy that decides. Default `ttft`.
    #[serde(skip)]
    pub policy: String,
    /// Seed of every lot that is drawn, ties included; drawn itself where it is
    /// absent. Default none.
    #[serde(skip)]
    pub seed: Option<u64>,
    /// Of `ttft`.
    pub ttft: TtftSettings,
    /// Of `cost`.
    pub cost: CostSettings,
    /// Of `logit`.
    pub logit: LogitSettings,
    /// Of `two-tier`.
    #[serde(rename = "two-tier")]
    pub two_tier: TwoTierSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: super::DEFAULT.to_owned(),
            seed: None,
            ttft: TtftSettings::default(),
            cost: CostSettings::default(),
            logit: LogitSettings::default(),
            two_tier: TwoTierSettings::default(),
        }
    }
}

/// Parameters of `logit`; the defaults are the seeds'.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LogitSettings {
    /// Weight of the share of the prompt that is held. Default 2.
    pub overlap_weight: f64,
    /// Weight of the share of the KV cache in use. Default 1.
    pub kv_usage_weight: f64,
    /// Weight of the queue, as a share of the longest. Default 1.
    pub waiting_weight: f64,
}

impl Default for LogitSettings {
    fn default() -> Self {
        Self { overlap_weight: 2.0, kv_usage_weight: 1.0, waiting_weight: 1.0 }
    }
}

/// Parameters of `cost`, named and preset as Dynamo's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CostSettings {
    /// What a block that the worker holds is worth, in blocks of prefill. Default 1.
    pub overlap_score_credit: f64,
    /// How fast that wears off with the backlog above the least. Default 0.
    pub overlap_score_credit_decay: f64,
    /// Weight of a block to prefill. Default 1.
    pub prefill_load_scale: f64,
    /// Blocks that a request in flight counts for. Default 0.
    pub decode_active_request_weight: f64,
    /// What a block in host memory is worth. Default 0.75.
    pub host_cache_hit_weight: f64,
    /// What a block on disk is worth. Default 0.25.
    pub disk_cache_hit_weight: f64,
    /// Softmax temperature over the costs, scaled to their range; 0 takes the
    /// least. Default 0.
    pub temperature: f64,
}

impl Default for CostSettings {
    fn default() -> Self {
        Self {
            overlap_score_credit: 1.0,
            overlap_score_credit_decay: 0.0,
            prefill_load_scale: 1.0,
            decode_active_request_weight: 0.0,
            host_cache_hit_weight: 0.75,
            disk_cache_hit_weight: 0.25,
            temperature: 0.0,
        }
    }
}

/// Parameters of `two-tier`, named and preset as Dynamo's and SGLang's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TwoTierSettings {
    /// Share of the prompt that must be held for the cache to decide. Default 0.5.
    pub cache_threshold: f64,
    /// Requests between the most and the least loaded worker past which load decides. Default 32.
    pub balance_abs_threshold: f64,
    /// The same, as a ratio; both must be passed. Default 1.1.
    pub balance_rel_threshold: f64,
}

impl Default for TwoTierSettings {
    fn default() -> Self {
        Self { cache_threshold: 0.5, balance_abs_threshold: 32.0, balance_rel_threshold: 1.1 }
    }
}

/// Parameters of `ttft`; the presets are those that did best on recorded and made
/// loads (`cargo xtask bench routing`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TtftSettings {
    /// What a second of prefill counts for beyond itself: it delays whoever comes
    /// behind. Default 8.
    pub work_weight: f64,
    /// The same, for each prompt that waits there already. Default 1.
    pub queue_weight: f64,
}

impl Default for TtftSettings {
    fn default() -> Self {
        Self { work_weight: 8.0, queue_weight: 1.0 }
    }
}
