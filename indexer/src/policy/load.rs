//! Load alone: all of it, or that of two.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Candidate, Policy, Prompt};

/// What the score of a worker outside of the drawn pair lacks; more than any load.
const ASIDE: f64 = 1e12;

/// The fewest requests in flight.
pub(super) struct LeastLoaded;

impl Policy for LeastLoaded {
    fn score(
        &self,
        _prompt: Prompt,
        candidates: &[Candidate],
        _dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        scores.extend(candidates.iter().map(|one| -one.in_flight.requests));
    }
}

/// The less loaded of two that are drawn: nearly as even as looking at all, and
/// many routers that do not know of each other do not herd.
pub(super) struct PowerOfTwo;

impl Policy for PowerOfTwo {
    fn score(
        &self,
        _prompt: Prompt,
        candidates: &[Candidate],
        dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        scores.extend(candidates.iter().map(|one| -one.in_flight.requests - ASIDE));
        if let [_, _, ..] = candidates {
            let first = dice.random_range(0..candidates.len());
            let other = dice.random_range(0..candidates.len() - 1);
            let second = other + usize::from(other >= first);
            for drawn in [first, second] {
                scores[drawn] += ASIDE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{busy, scores};
    use super::*;

    #[test]
    fn the_fewest_requests_win() {
        assert_eq!(scores(&LeastLoaded, 16, &[busy(3.0), busy(1.0)]), [-3.0, -1.0]);
    }

    #[test]
    fn the_most_loaded_never_wins_and_every_other_does() {
        let candidates = [busy(9.0), busy(1.0), busy(2.0), busy(3.0)];
        let mut wins = [0; 4];
        for seed in 0..400 {
            let scores = super::super::tests::scores_by(seed, &PowerOfTwo, 16, &candidates);
            let best = (0..4).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
            wins[best] += 1;
        }
        assert_eq!(wins[0], 0);
        assert!(wins[1] > wins[2] && wins[2] > wins[3] && wins[3] > 0, "{wins:?}");
    }

    #[test]
    fn one_candidate_needs_no_pair() {
        assert_eq!(scores(&PowerOfTwo, 16, &[busy(1.0)]).len(), 1);
    }
}
