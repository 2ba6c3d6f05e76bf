//! TensorRT-LLM's page of iterations: `GET /metrics` of `trtllm-serve`.
//!
//! A JSON list of the iterations since it was last asked for: reading drains it,
//! so only one reader has them. The last one of each rank says how it is now; an
//! engine without work iterates no more, so that a page that stays empty says so
//! too (see [`super::page`]).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Report;

/// Of one iteration; other fields are skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iteration {
    #[serde(default)]
    num_queued_requests: Option<f64>,
    #[serde(default)]
    num_active_requests: Option<f64>,
    #[serde(default)]
    attention_dp_rank: Option<u32>,
    #[serde(default)]
    inflight_batching_stats: Option<Batch>,
    #[serde(default)]
    kv_cache_stats: Option<Cache>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    #[serde(default)]
    num_paused_requests: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cache {
    max_num_blocks: f64,
    used_num_blocks: f64,
}

/// Whether a page is such a list.
pub(super) fn is_list(page: &str) -> bool {
    page.trim_start().starts_with('[')
}

/// The last report of each rank; the error is the reason to count.
pub(super) fn read(page: &str) -> Result<BTreeMap<u32, Report>, &'static str> {
    let iterations: Vec<Iteration> = serde_json::from_str(page).map_err(|_| "not_iterations")?;
    Ok(iterations.iter().filter_map(report).collect())
}

/// The seed's worker counts paused requests among those that wait: they lost
/// their blocks and queue for new ones.
fn report(iteration: &Iteration) -> Option<(u32, Report)> {
    let batch = iteration.inflight_batching_stats.as_ref();
    let paused = batch.and_then(|batch| batch.num_paused_requests).unwrap_or(0.0);
    let usage = iteration.kv_cache_stats.as_ref().map(|cache| {
        let share = cache.used_num_blocks / cache.max_num_blocks;
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    });
    let queued = iteration.num_queued_requests.or(batch.map(|_| 0.0))?;
    let running = iteration.num_active_requests.map(|active| (active - paused).max(0.0));
    let waiting = queued + paused;
    (waiting >= 0.0).then_some((
        iteration.attention_dp_rank.unwrap_or(0),
        Report { waiting, running, kv_usage: usage.unwrap_or(0.0) },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_iteration_of_each_rank_counts() {
        let page = r#" [
            {"iter":153,"numActiveRequests":9,"numQueuedRequests":9},
            {"iter":154,"gpuMemUsage":76665782272,"iterLatencyMS":7.0,"numActiveRequests":3,
             "numQueuedRequests":4,"inflightBatchingStats":{"numContextRequests":0,"numPausedRequests":1},
             "kvCacheStats":{"allocTotalBlocks":3126,"maxNumBlocks":200,"usedNumBlocks":50,"tokensPerBlock":32}},
            {"iter":154,"attentionDpRank":1,"numActiveRequests":1,"numQueuedRequests":0}
        ]"#;
        assert!(is_list(page));
        let read = read(page).unwrap();
        assert_eq!(read[&0], Report { waiting: 5.0, running: Some(2.0), kv_usage: 0.25 });
        assert_eq!(read[&1], Report { waiting: 0.0, running: Some(1.0), kv_usage: 0.0 });
    }

    #[test]
    fn an_idle_engine_says_nothing() {
        assert!(read("[]").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_iteration_is_refused_or_passed_over() {
        assert_eq!(read("[1]"), Err("not_iterations"));
        assert_eq!(read("[{"), Err("not_iterations"));
        assert!(read(r#"[{"iter":1}]"#).unwrap().is_empty());
        let odd = r#"[{"numQueuedRequests":-3},{"numQueuedRequests":1,"kvCacheStats":{"maxNumBlocks":0,"usedNumBlocks":0}}]"#;
        assert_eq!(read(odd).unwrap()[&0].kv_usage, 0.0);
        assert!(!is_list("# HELP vllm:x y"));
    }
}
