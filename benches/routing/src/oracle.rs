//! What no router can beat: one cache as large as all together.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::engine::Costs;
use crate::load::Load;

/// The bound for a load on that many workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Tokens that were cached.
    pub(crate) cached: u64,
    /// Tokens that were asked.
    pub(crate) tokens: u64,
    /// Seconds of work of all requests.
    pub(crate) work: f64,
    /// Mean seconds of prefill, without any queue.
    pub(crate) ttft_mean: f64,
}

/// Plays a load through one cache of `workers` times the size, in which every
/// block is there as soon as it was asked for.
pub(crate) fn bound(load: &Load, costs: Costs, workers: usize) -> Bound {
    let most = (costs.cache_tokens * workers as u64 / load.block) as usize;
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut order: BTreeMap<u64, u64> = BTreeMap::new();
    let mut clock = 0;
    let mut bound = Bound { cached: 0, tokens: 0, work: 0.0, ttft_mean: 0.0 };
    for request in &load.requests {
        let held = request.blocks.iter().take_while(|block| last.contains_key(*block)).count();
        let cached = (held as u64 * load.block).min(request.tokens - 1);
        bound.cached += cached;
        bound.tokens += request.tokens;
        bound.work += costs.work(request, cached);
        bound.ttft_mean += costs.step + costs.prefill(cached, request.tokens - cached);
        // Tails are older than what stands before them.
        for &block in request.blocks.iter().rev() {
            clock += 1;
            if let Some(before) = last.insert(block, clock) {
                order.remove(&before);
            }
            order.insert(clock, block);
        }
        while last.len() > most {
            let Some((_, oldest)) = order.pop_first() else { break };
            last.remove(&oldest);
        }
    }
    bound.ttft_mean /= load.requests.len().max(1) as f64;
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Request;

    #[test]
    fn what_was_asked_once_is_cached_until_it_must_go() {
        let ask = |blocks: &[u64]| Request {
            at: 0.0,
            tokens: blocks.len() as u64 * 16 + 1,
            output: 1,
            blocks: blocks.to_vec(),
        };
        let requests = vec![ask(&[1, 2]), ask(&[1, 2, 3]), ask(&[7, 8]), ask(&[1, 2, 3])];
        let load = Load { name: "test", block: 16, requests };
        let costs = |blocks: u64| Costs { cache_tokens: 16 * blocks, ..Costs::default() };
        assert_eq!(bound(&load, costs(10), 1).cached, 32 + 48);
        assert_eq!(bound(&load, costs(4), 1).cached, 32 + 32, "block 3 had to go");
        assert_eq!(bound(&load, costs(2), 2).cached, 32 + 32, "workers' caches add up");
    }
}
