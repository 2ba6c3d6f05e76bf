//! What is said of policies, of the in-flight book and of busy workers.

use super::fields::Fields;
use crate::book::BookConfig;
use crate::policy::{CostSettings, LogitSettings, Settings, TtftSettings, TwoTierSettings};
use crate::saturation::{QueuePolicy, SaturationConfig};

const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// The fields `policy`, `policy_seed` and `policies` of a mapping.
pub(super) fn settings(fields: &mut Fields<'_, '_>) -> Settings {
    let default = Settings::default();
    let policy = fields.text("policy").unwrap_or(default.policy);
    let seed = fields.number("policy_seed", 0, u64::MAX);
    let read = |mut fields: Fields<'_, '_>| {
        let read = Settings {
            policy: String::new(),
            seed: None,
            ttft: fields.nested("ttft", ttft).unwrap_or_default(),
            cost: fields.nested("cost", cost).unwrap_or_default(),
            logit: fields.nested("logit", logit).unwrap_or_default(),
            two_tier: fields.nested("two-tier", two_tier).unwrap_or_default(),
        };
        fields.finish();
        read
    };
    Settings { policy, seed, ..fields.nested("policies", read).unwrap_or_default() }
}

/// Reads amounts into the fields of the same name.
macro_rules! amounts {
    ($fields:ident, $settings:ident: $($name:ident),+) => {{
        $(if let Some(amount) = $fields.amount(stringify!($name)) {
            $settings.$name = amount;
        })+
        $fields.finish();
        $settings
    }};
}

fn ttft(mut fields: Fields<'_, '_>) -> TtftSettings {
    let mut settings = TtftSettings::default();
    amounts!(fields, settings: work_weight, queue_weight)
}

fn cost(mut fields: Fields<'_, '_>) -> CostSettings {
    let mut settings = CostSettings::default();
    amounts!(
        fields, settings: overlap_score_credit, overlap_score_credit_decay, prefill_load_scale,
        decode_active_request_weight, host_cache_hit_weight, disk_cache_hit_weight, temperature
    )
}

fn logit(mut fields: Fields<'_, '_>) -> LogitSettings {
    let mut settings = LogitSettings::default();
    amounts!(fields, settings: overlap_weight, kv_usage_weight, waiting_weight)
}

fn two_tier(mut fields: Fields<'_, '_>) -> TwoTierSettings {
    let mut settings = TwoTierSettings::default();
    amounts!(fields, settings: cache_threshold, balance_abs_threshold, balance_rel_threshold)
}

pub(super) fn saturation(mut fields: Fields<'_, '_>) -> SaturationConfig {
    let default = SaturationConfig::default();
    let queue_policy = match fields.text("queue_policy").as_deref() {
        None => default.queue_policy,
        Some("fcfs") => QueuePolicy::Fcfs,
        Some("wspt") => QueuePolicy::Wspt,
        Some(other) => {
            fields.error("queue_policy", format_args!("expected fcfs or wspt, found {other:?}"));
            default.queue_policy
        }
    };
    let saturation = SaturationConfig {
        active_decode_blocks_threshold: fields.amount("active_decode_blocks_threshold"),
        active_prefill_tokens_threshold: fields.amount("active_prefill_tokens_threshold"),
        active_prefill_tokens_threshold_frac: fields.amount("active_prefill_tokens_threshold_frac"),
        hold_ms: fields.number("hold_ms", 0, MINUTE_MS).unwrap_or(default.hold_ms),
        max_held: fields
            .number("max_held", 1, 1 << 16)
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(default.max_held),
        queue_policy,
        ageing_ms: fields.number("ageing_ms", 1, DAY_MS).unwrap_or(default.ageing_ms),
        refuse: fields.truth("refuse").unwrap_or(default.refuse),
        retry_after_s: fields.number("retry_after_s", 0, 3600).unwrap_or(default.retry_after_s),
    };
    if (saturation.hold_ms > 0 || saturation.refuse) && !saturation.has_threshold() {
        fields.error(
            "hold_ms",
            "holding and refusing need a threshold: active_decode_blocks_threshold, \
             active_prefill_tokens_threshold or active_prefill_tokens_threshold_frac",
        );
    }
    fields.finish();
    saturation
}

pub(super) fn book(mut fields: Fields<'_, '_>) -> BookConfig {
    let default = BookConfig::default();
    let truth = |fields: &mut Fields<'_, '_>, name, default| fields.truth(name).unwrap_or(default);
    let book = BookConfig {
        track_active_blocks: truth(&mut fields, "track_active_blocks", default.track_active_blocks),
        track_prefill_tokens: truth(
            &mut fields,
            "track_prefill_tokens",
            default.track_prefill_tokens,
        ),
        track_output_blocks: truth(&mut fields, "track_output_blocks", default.track_output_blocks),
        grace_ms: fields.number("grace_ms", 0, DAY_MS).unwrap_or(default.grace_ms),
        expiry_ms: fields.number("expiry_ms", 1, DAY_MS).unwrap_or(default.expiry_ms),
        max_requests: fields
            .number("max_requests", 1, 1 << 20)
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(default.max_requests),
    };
    fields.finish();
    book
}
