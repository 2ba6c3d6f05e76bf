//! Neither cache nor load: everybody in turn, or anybody.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Candidate, Policy, Prompt};

/// The one whose last decision is longest ago.
///
/// A counter over the candidates was rejected: two models that are asked for in
/// turn would each see every second number only.
pub(super) struct RoundRobin;

impl Policy for RoundRobin {
    fn score(
        &self,
        _prompt: Prompt,
        candidates: &[Candidate],
        _dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        scores.extend(candidates.iter().map(|one| -(one.turn as f64)));
    }
}

/// Anybody.
pub(super) struct Random;

impl Policy for Random {
    fn score(
        &self,
        _prompt: Prompt,
        candidates: &[Candidate],
        dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        scores.extend(candidates.iter().map(|_| dice.random::<f64>()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{scores, scores_by};
    use super::*;

    #[test]
    fn the_one_that_waited_longest_is_next() {
        let turn = |turn| Candidate { turn, ..Candidate::default() };
        assert_eq!(scores(&RoundRobin, 16, &[turn(7), turn(5), turn(6)]), [-7.0, -5.0, -6.0]);
    }

    #[test]
    fn one_seed_draws_the_same_lots() {
        let candidates = [Candidate::default(); 3];
        let draw = |seed| scores_by(seed, &Random, 16, &candidates);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
