//! From scores to a choice.

use rand::RngExt;
use rand::rngs::SmallRng;
use warmpath_radix::WorkerId;

use super::seats::Seat;
use crate::policy::Candidate;

/// How many endpoints follow the chosen one.
const FALLBACKS: usize = 2;

/// A broken score must lose, and must not break the comparison of others.
pub(super) fn mend(scores: &mut Vec<f64>, candidates: usize) {
    scores.resize(candidates, f64::NEG_INFINITY);
    scores.iter_mut().filter(|score| score.is_nan()).for_each(|nan| *nan = f64::NEG_INFINITY);
}

/// Who is busy loses against whoever is not.
pub(super) fn pass_over_busy(scores: &mut [f64], candidates: &[Candidate]) {
    if candidates.iter().any(|one| !one.busy) {
        let busy = scores.iter_mut().zip(candidates).filter(|(_, one)| one.busy);
        busy.for_each(|(score, _)| *score = f64::NEG_INFINITY);
    }
}

/// The seat of the greatest score, at random among equals, of other workers
/// than those to skip.
pub(super) fn best(
    seats: &[Seat<'_>],
    scores: &[f64],
    skip: &[WorkerId],
    dice: &mut SmallRng,
) -> Option<usize> {
    let mut found: Option<usize> = None;
    let mut equals = 0_u32;
    for (at, (seat, score)) in seats.iter().zip(scores).enumerate() {
        if skip.contains(&seat.worker.id) {
            continue;
        }
        match found {
            Some(best) if *score < scores[best] => {}
            Some(best) if *score == scores[best] => {
                // Each of n equals stays with probability 1/n.
                equals += 1;
                if dice.random_range(0..equals) == 0 {
                    found = Some(at);
                }
            }
            _ => {
                found = Some(at);
                equals = 1;
            }
        }
    }
    found
}

/// Endpoints of other workers, best first.
pub(super) fn fallbacks(
    seats: &[Seat<'_>],
    scores: &[f64],
    chosen: WorkerId,
    dice: &mut SmallRng,
) -> Vec<String> {
    let mut skip = vec![chosen];
    let mut endpoints = Vec::with_capacity(FALLBACKS);
    while endpoints.len() < FALLBACKS
        && let Some(next) = best(seats, scores, &skip, dice)
    {
        skip.push(seats[next].worker.id);
        endpoints.push(seats[next].worker.config.endpoint.clone());
    }
    endpoints
}
