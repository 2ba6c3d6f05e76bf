//! The formula of Dynamo's stand-alone router examples.

use rand::rngs::SmallRng;

use super::{Candidate, LogitSettings, Policy, Prompt};

/// `2·overlap − kv_usage − waiting / max_waiting`.
///
/// Overlap is the share of the prompt that the worker holds; the waiting
/// requests are measured against the longest queue, so that their weight does
/// not grow with the load of the whole fleet.
pub(super) struct Logit(pub(super) LogitSettings);

impl Policy for Logit {
    fn score(
        &self,
        prompt: Prompt,
        candidates: &[Candidate],
        _dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        let Self(weights) = self;
        let tokens = prompt.tokens;
        let longest = candidates.iter().map(|one| one.load.waiting).fold(0.0, f64::max);
        scores.extend(candidates.iter().map(|one| {
            let overlap =
                if tokens == 0 { 0.0 } else { one.overlap_tokens() as f64 / tokens as f64 };
            let waiting = if longest > 0.0 { one.load.waiting / longest } else { 0.0 };
            weights.overlap_weight * overlap
                - weights.kv_usage_weight * one.load.kv_usage
                - weights.waiting_weight * waiting
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scores;
    use super::*;
    use crate::load::Load;

    fn candidate(overlap_blocks: u32, waiting: f64, kv_usage: f64) -> Candidate {
        let load = Load { waiting, running: 0.0, kv_usage };
        Candidate { overlap_blocks, block_size: 16, load, ..Candidate::default() }
    }

    #[test]
    fn the_formula_of_the_seeds() {
        let logit = Logit(LogitSettings::default());
        let candidates = [candidate(4, 4.0, 0.5), candidate(0, 1.0, 0.25)];
        let expected = [2.0 * 64.0 / 128.0 - 0.5 - 1.0, -0.25 - 0.25];
        assert_eq!(scores(&logit, 128, &candidates), expected);
    }

    #[test]
    fn no_tokens_and_no_queue_divide_by_nothing() {
        let logit = Logit(LogitSettings::default());
        assert_eq!(scores(&logit, 0, &[candidate(0, 0.0, 0.0)]), [0.0]);
    }
}
