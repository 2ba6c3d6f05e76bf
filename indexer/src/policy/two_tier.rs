//! The cache decides while the load is even.

use rand::rngs::SmallRng;

use super::{Candidate, Policy, Prompt, TwoTierSettings};

/// What the score of a worker lacks that does not hold the most; more than any load.
const ASIDE: f64 = 1e12;

/// Least loaded where the requests in flight are uneven or little of the prompt
/// is held; else least loaded among those that hold the most. It is
/// cache_aware_zmq of SGLang's router, which Dynamo ships as
/// dynamo-two-tier-cost-fn.
pub(super) struct TwoTier(pub(super) TwoTierSettings);

impl Policy for TwoTier {
    fn score(
        &self,
        prompt: Prompt,
        candidates: &[Candidate],
        _dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        let Self(settings) = self;
        let requests = |one: &Candidate| one.in_flight.requests;
        let most = candidates.iter().map(requests).fold(0.0, f64::max);
        let least = candidates.iter().map(requests).fold(f64::INFINITY, f64::min);
        let uneven = most - least > settings.balance_abs_threshold
            && most > settings.balance_rel_threshold * least;
        let share = |one: &Candidate| {
            let blocks = (prompt.tokens as f64 / one.block_tokens()).ceil().max(1.0);
            f64::from(one.overlap_blocks) / blocks
        };
        let best = candidates.iter().map(share).fold(0.0, f64::max);
        let cache = !uneven && best > settings.cache_threshold;
        scores.extend(candidates.iter().map(|one| {
            let aside = if cache && share(one) < best { ASIDE } else { 0.0 };
            -requests(one) - aside
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{busy, scores};
    use super::*;

    fn best(candidates: &[Candidate]) -> usize {
        let scores = scores(&TwoTier(TwoTierSettings::default()), 160, candidates);
        (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
    }

    fn warm(overlap_blocks: u32, requests: f64) -> Candidate {
        Candidate { overlap_blocks, ..busy(requests) }
    }

    #[test]
    fn the_least_loaded_of_those_that_hold_the_most() {
        assert_eq!(best(&[warm(6, 9.0), warm(6, 8.0), warm(5, 0.0)]), 1);
    }

    #[test]
    fn half_of_the_prompt_is_not_enough() {
        assert_eq!(best(&[warm(5, 1.0), warm(0, 0.0)]), 1);
    }

    #[test]
    fn uneven_load_overrides_the_cache() {
        assert_eq!(best(&[warm(10, 33.0), warm(0, 0.0)]), 1);
        assert_eq!(best(&[warm(10, 32.0), warm(0, 0.0)]), 0);
        assert_eq!(best(&[warm(10, 433.0), warm(0, 400.0)]), 0, "uneven by number only");
    }
}
