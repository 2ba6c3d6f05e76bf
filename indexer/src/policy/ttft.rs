//! The least predicted time to first token, others' included.

use rand::rngs::SmallRng;

use super::{Candidate, Policy, Prompt, TtftSettings};
use crate::book::{Fit, Prefill};

/// Seconds until the worker would begin with the prompt, plus the seconds that it
/// would take for what it does not hold, both at the rate that it has shown; plus
/// what that work costs others.
///
/// The first two alone are selfish: a prompt that is computed twice to save its own
/// wait delays everybody behind it, and under load nobody then follows the cache any
/// more, which makes more work, and more load. So the work counts several times
/// (`work_weight`), and more the more prompts wait there (`queue_weight`): affinity
/// gives way to load while queues are short, and load to affinity when they grow.
///
/// A prefix that many requests in flight use is *hot*: a second copy is not lost
/// but used by the next, so its regard for others is divided among them. That is
/// what spreads one system prompt over a fleet, where sessions stay where they are.
/// What requests in flight are about to compute counts as held: a burst of equal
/// prompts lands together.
pub(super) struct Ttft(pub(super) TtftSettings);

impl Policy for Ttft {
    fn score(
        &self,
        prompt: Prompt,
        candidates: &[Candidate],
        _dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    ) {
        let Self(settings) = self;
        // Fits are noisy; how much others wait is judged by one for all, or the
        // luckiest estimate would draw every prompt.
        let all = mean(candidates);
        let (shared, users) = candidates
            .iter()
            .map(|one| (one.shared_tokens(), f64::from(one.shared_by.max(1))))
            .fold((0.0, 1.0), |most, one| if one > most { one } else { most });
        scores.extend(candidates.iter().map(|one| {
            let new = one.to_prefill(prompt.tokens);
            let held = prompt.tokens as f64 - new;
            let hot = (shared - held).clamp(0.0, new);
            let work = Prefill::of(held, new);
            let own = one.in_flight.wait + one.in_flight.fit.seconds(work);
            let behind = settings.work_weight + settings.queue_weight * one.in_flight.prefilling;
            // Of a hot prefix, one part in as many as use it.
            let regard = 1.0 - hot * (1.0 - 1.0 / users) / new.max(1.0);
            -(own + behind * regard * (all.seconds(work) - all.overhead))
        }));
    }
}

fn mean(candidates: &[Candidate]) -> Fit {
    let number = candidates.len().max(1) as f64;
    let mean = |of: fn(&Fit) -> f64| {
        candidates.iter().map(|one| of(&one.in_flight.fit)).sum::<f64>() / number
    };
    Fit {
        overhead: mean(|fit| fit.overhead),
        token: mean(|fit| fit.token),
        pair: mean(|fit| fit.pair),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scores;
    use super::*;
    use crate::book::InFlight;

    /// A worker of 10,000 tokens a second with that much to do.
    fn worker(overlap_blocks: u32, wait: f64) -> Candidate {
        let fit = Fit { overhead: 0.0, token: 1e-4, pair: 0.0 };
        let in_flight = InFlight { wait, fit, ..InFlight::default() };
        Candidate { overlap_blocks, block_size: 16, in_flight, ..Candidate::default() }
    }

    fn score(candidates: &[Candidate]) -> Vec<f64> {
        let settings = TtftSettings { work_weight: 1.0, queue_weight: 0.5 };
        scores(&Ttft(settings), 16_000, candidates)
    }

    #[test]
    fn wait_and_prefill_in_seconds_and_prefill_once_more_for_others() {
        assert_eq!(score(&[worker(1000, 2.0), worker(500, 0.5)]), [-2.0, -0.5 - 2.0 * 0.8]);
    }

    #[test]
    fn the_own_rate_counts_for_the_own_time_only() {
        let mut slow = worker(0, 0.0);
        slow.in_flight.fit.token = 2e-4;
        let scores = score(&[slow, worker(0, 0.0)]);
        assert!((scores[0] - scores[1] + 1.6).abs() < 1e-9, "{scores:?}");
    }

    #[test]
    fn a_cache_is_left_for_a_worker_that_is_idle_enough() {
        let scores = score(&[worker(1000, 3.1), worker(0, 0.0)]);
        assert_eq!(scores, [-3.1, -3.2]);
        let scores = score(&[worker(1000, 3.3), worker(0, 0.0)]);
        assert!(scores[1] > scores[0], "{scores:?}");
    }

    #[test]
    fn the_longer_the_queue_the_less_is_computed_twice() {
        let mut queued = worker(0, 1.0);
        queued.in_flight.prefilling = 4.0;
        assert_eq!(score(&[queued]), [-1.0 - 1.6 * (1.0 + 1.0 + 2.0)]);
    }

    #[test]
    fn a_hot_prefix_is_spread_sooner() {
        let mut warm = worker(1000, 2.5);
        assert!(score(&[warm, worker(0, 0.0)])[0] > score(&[warm, worker(0, 0.0)])[1]);
        (warm.shared_blocks, warm.shared_by) = (1000, 8);
        let scores = score(&[warm, worker(0, 0.0)]);
        assert_eq!(scores, [-2.5, -1.6 - 0.2]);
    }

    #[test]
    fn what_is_being_computed_counts_as_held() {
        let burst = Candidate { shared_blocks: 1000, shared_by: 1, ..worker(0, 1.5) };
        let scores = score(&[burst, worker(0, 0.0)]);
        assert_eq!(scores, [-1.5, -3.2]);
    }
}
