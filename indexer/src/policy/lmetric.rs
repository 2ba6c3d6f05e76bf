//! The work that is new times the requests that share the worker.

use rand::rngs::SmallRng;

use super::{Candidate, Policy, Prompt};

/// `uncached tokens × (requests in flight + 1)`, the least wins (LMetric,
/// arXiv 2603.15202). It has no parameters.
pub(super) struct Lmetric;

impl Policy for Lmetric {
    fn score(
        &self,
        prompt: Prompt,
        candidates: &[Candidate],
        _dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        // A prompt that is held whole still costs its last token, so that load
        // decides among those that hold it.
        let metric = |one: &Candidate| {
            one.uncached_tokens(prompt.tokens).max(1.0) * (one.in_flight.requests + 1.0)
        };
        scores.extend(candidates.iter().map(|one| -metric(one)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{busy, scores};
    use super::*;

    #[test]
    fn uncached_tokens_count_once_for_each_request_there() {
        let warm = Candidate { overlap_blocks: 6, ..busy(4.0) };
        assert_eq!(scores(&Lmetric, 160, &[busy(0.0), warm]), [-160.0, -64.0 * 5.0]);
        let all = Candidate { overlap_blocks: 10, ..busy(2.0) };
        assert_eq!(scores(&Lmetric, 160, &[all]), [-3.0]);
    }
}
