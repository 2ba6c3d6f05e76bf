//! Dynamo's cost of today.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Candidate, CostSettings, Policy, Prompt};

/// Blocks of prefill that the prompt would wait for and cost, less a credit for
/// what the worker holds, plus the blocks that its requests would then have in
/// use; the least wins. The formula and its presets are those of the crate
/// dynamo-custom-policy-builtin 1.6.
///
/// Dynamo knows one block size per fleet. Here the cost is scaled to the smallest
/// among the candidates, so that large blocks do not look like little work.
pub(super) struct Cost(pub(super) CostSettings);

impl Cost {
    fn cost(&self, prompt: Prompt, least_prefill: f64, one: &Candidate) -> f64 {
        let Self(settings) = self;
        let size = one.block_tokens();
        let tokens = prompt.tokens as f64;
        let backlog = one.in_flight.prefill_tokens;
        let decay = if prompt.tracks_prefill && settings.overlap_score_credit_decay > 0.0 {
            let above = (backlog - least_prefill) / size / (tokens / size).ceil().max(1.0);
            1.0 / (1.0 + settings.overlap_score_credit_decay * above)
        } else {
            1.0
        };
        let credit = settings.overlap_score_credit * decay * f64::from(one.overlap_blocks)
            + settings.host_cache_hit_weight * f64::from(one.host_blocks)
            + settings.disk_cache_hit_weight * f64::from(one.disk_blocks);
        let raw = if prompt.tracks_prefill { backlog + tokens } else { 0.0 };
        settings.prefill_load_scale * (raw / size - credit).max(0.0)
            + one.active_blocks
            + one.new_blocks
            + settings.decode_active_request_weight * one.in_flight.requests
    }
}

impl Policy for Cost {
    fn score(
        &self,
        prompt: Prompt,
        candidates: &[Candidate],
        dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        let least =
            |of: fn(&Candidate) -> f64| candidates.iter().map(of).fold(f64::INFINITY, f64::min);
        let prefill = least(|one| one.in_flight.prefill_tokens);
        let size = least(Candidate::block_tokens);
        let cost = |one| self.cost(prompt, prefill, one) * one.block_tokens() / size;
        scores.extend(candidates.iter().map(|one| -cost(one)));
        if self.0.temperature > 0.0 {
            soften(scores, self.0.temperature, dice);
        }
    }
}

/// Makes the greatest score a draw from the softmax over them, scaled to their
/// range: adding Gumbel noise to the logits and taking the greatest is the same.
fn soften(scores: &mut [f64], temperature: f64, dice: &mut SmallRng) {
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let range = greatest - least;
    for score in scores {
        let logit =
            if range > 0.0 && range.is_finite() { *score / (range * temperature) } else { 0.0 };
        let uniform = dice.random::<f64>().max(f64::MIN_POSITIVE);
        *score = logit - (-uniform.ln()).max(f64::MIN_POSITIVE).ln();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::tests::scores;
    use super::*;
    use crate::book::InFlight;

    fn candidate(overlap_blocks: u32, prefill_tokens: f64, active_blocks: f64) -> Candidate {
        Candidate {
            overlap_blocks,
            block_size: 16,
            in_flight: InFlight { prefill_tokens, ..InFlight::default() },
            active_blocks,
            ..Candidate::default()
        }
    }

    fn cost(settings: CostSettings, candidates: &[Candidate]) -> Vec<f64> {
        scores(&Cost(settings), 160, candidates).into_iter().map(|score| -score).collect()
    }

    #[test]
    fn prefill_less_credit_plus_active_blocks() {
        // Ten blocks to prefill, of which some are held, and what is in use.
        let candidates = [candidate(2, 0.0, 10.0), candidate(5, 0.0, 5.0), candidate(8, 0.0, 9.0)];
        assert_eq!(cost(CostSettings::default(), &candidates), [18.0, 10.0, 11.0]);
    }

    #[test]
    fn credit_never_makes_prefill_negative() {
        let settings = CostSettings { overlap_score_credit: 3.0, ..CostSettings::default() };
        assert_eq!(cost(settings, &[candidate(10, 0.0, 1.0)]), [1.0]);
    }

    #[test]
    fn credit_wears_off_with_the_backlog_above_the_least() {
        let settings = CostSettings { overlap_score_credit_decay: 1.0, ..CostSettings::default() };
        // 160 tokens are ten blocks above the least: half of the credit is left.
        let candidates = [candidate(10, 160.0, 0.0), candidate(0, 0.0, 0.0)];
        assert_eq!(cost(settings, &candidates), [20.0 - 5.0, 10.0]);
    }

    #[test]
    fn lower_tiers_and_requests_have_their_weights() {
        let settings =
            CostSettings { decode_active_request_weight: 2.0, ..CostSettings::default() };
        let mut one = candidate(4, 0.0, 0.0);
        (one.host_blocks, one.disk_blocks) = (2, 4);
        one.in_flight.requests = 3.0;
        assert_eq!(cost(settings, &[one]), [10.0 - 4.0 - 1.5 - 1.0 + 6.0]);
    }

    #[test]
    fn untracked_prefill_leaves_the_active_blocks() {
        let mut scores = Vec::new();
        let prompt = Prompt { tokens: 160, tracks_prefill: false };
        let mut dice = SmallRng::seed_from_u64(0);
        let candidates = [candidate(4, 99.0, 7.0)];
        Cost(CostSettings::default()).score(prompt, &candidates, &mut dice, &mut scores);
        assert_eq!(scores, [-7.0]);
    }

    #[test]
    fn large_blocks_are_not_little_work() {
        let small = candidate(0, 0.0, 0.0);
        let large = Candidate { block_size: 64, ..small };
        let costs = cost(CostSettings::default(), &[small, large]);
        assert_eq!(costs, [10.0, 10.0]);
    }

    #[test]
    fn temperature_draws_from_the_softmax() {
        let settings = CostSettings { temperature: 0.5, ..CostSettings::default() };
        let candidates = [candidate(0, 0.0, 0.0), candidate(10, 0.0, 0.0)];
        let mut dice = SmallRng::seed_from_u64(7);
        let mut firsts = 0;
        for _ in 0..10_000 {
            let mut scores = Vec::new();
            let prompt = Prompt { tokens: 160, tracks_prefill: true };
            Cost(settings).score(prompt, &candidates, &mut dice, &mut scores);
            firsts += usize::from(scores[0] > scores[1]);
        }
        // p = e^-2 / (1 + e^-2) = 0.1192
        assert!((1050..1350).contains(&firsts), "{firsts}");
    }
}
