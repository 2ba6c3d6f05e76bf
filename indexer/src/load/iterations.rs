//! TensorRT-LLM's page of iterations: `GET /metrics` of `trtllm-serve`.
//!
//! A JSON list of the last iterations: in most releases reading drains it, so that
//! only one reader has them. The last one of each rank says how it is now; an
//! engine without work iterates no more, so that a page without news says so
//! too (see [`super::page`]).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Report;
use super::capacity::CacheConfig;

/// Of one iteration; other fields are skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iteration {
    #[serde(default)]
    iter: Option<u64>,
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
    #[serde(default)]
    tokens_per_block: u32,
}

/// Whether a page is such a list.
pub(super) fn is_list(page: &str) -> bool {
    page.trim_start().starts_with('[')
}

/// What a list says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Iterations {
    /// The last report of each rank.
    pub(super) reports: BTreeMap<u32, Report>,
    /// The cache of each rank, as far as it is told.
    pub(super) caches: Vec<CacheConfig>,
    /// The number of the last iteration.
    pub(super) last: Option<u64>,
}

/// Reads a list; the error is the reason to count.
pub(super) fn read(page: &str) -> Result<Iterations, &'static str> {
    let iterations: Vec<Iteration> = serde_json::from_str(page).map_err(|_| "not_iterations")?;
    Ok(Iterations {
        reports: iterations.iter().filter_map(report).collect(),
        caches: caches(&iterations),
        last: iterations.last().and_then(|last| last.iter),
    })
}

fn caches(iterations: &[Iteration]) -> Vec<CacheConfig> {
    let mut caches = BTreeMap::new();
    for iteration in iterations {
        let engine = iteration.attention_dp_rank.unwrap_or(0);
        let Some(cache) = &iteration.kv_cache_stats else { continue };
        if cache.max_num_blocks >= 1.0 && cache.tokens_per_block > 0 {
            let (blocks, block_size) = (cache.max_num_blocks as u64, cache.tokens_per_block);
            caches.insert(engine, CacheConfig { engine, blocks, block_size });
        }
    }
    caches.into_values().collect()
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
        let Iterations { reports: read, caches, last } = read(page).unwrap();
        assert_eq!(read[&0], Report { waiting: 5.0, running: Some(2.0), kv_usage: 0.25 });
        assert_eq!(read[&1], Report { waiting: 0.0, running: Some(1.0), kv_usage: 0.0 });
        assert_eq!(caches, [CacheConfig { engine: 0, blocks: 200, block_size: 32 }]);
        assert_eq!(last, Some(154));
    }

    #[test]
    fn an_idle_engine_says_nothing() {
        assert_eq!(read("[]"), Ok(Iterations::default()));
    }

    #[test]
    fn what_is_no_iteration_is_refused_or_passed_over() {
        assert_eq!(read("[1]"), Err("not_iterations"));
        assert_eq!(read("[{"), Err("not_iterations"));
        assert!(read(r#"[{"iter":1}]"#).unwrap().reports.is_empty());
        let odd = r#"[{"numQueuedRequests":-3},{"numQueuedRequests":1,"kvCacheStats":{"maxNumBlocks":0,"usedNumBlocks":0}}]"#;
        assert_eq!(read(odd).unwrap().reports[&0].kv_usage, 0.0);
        assert!(!is_list("# HELP vllm:x y"));
    }
}
