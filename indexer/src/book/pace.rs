//! How fast one holder prefills, learned from first tokens.
//!
//! A prompt keeps its holder busy from when the one before it got its first
//! token (or from when it was routed, if nothing was before it) to its own first
//! token. That stretch is fitted by what attention makes of it: so much a prompt, so
//! much a token, so much for each pair of a new token and one before it; with least
//! squares whose memory fades, so that a rate that decoding slows down is the rate
//! of now. A rate from the time since the request was routed was rejected: it counts
//! every queue as often as there are requests in it. So was a straight line: a prompt
//! of 100,000 tokens takes half as long again as it says.

/// Samples that count; older ones fade.
const MEMORY: f64 = 64.0;
/// What is believed before the first sample, and how firmly, in samples.
const PRIOR_SAMPLES: f64 = 0.5;
const PRIOR: [f64; 3] = [0.02, 1.0 / 10_000.0, 0.0];
/// What is typical, so that the prior weighs alike on all: a prompt, its tokens, its pairs.
const SCALE: [f64; 3] = [1.0, 2048.0, 2048.0 * 4096.0];
/// Slowest prefill that is believed, in seconds a token.
const TOKEN_MOST: f64 = 0.1;
/// Fastest.
const TOKEN_LEAST: f64 = 1e-8;

/// What a prompt costs a holder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Seconds that every prompt costs.
    pub overhead: f64,
    /// Seconds for each token.
    pub token: f64,
    /// Seconds for each pair of a new token and one before it.
    pub pair: f64,
}

/// How much prefill there is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prefill {
    /// Prompts.
    pub prompts: f64,
    /// Tokens that are not held.
    pub tokens: f64,
    /// Pairs of such a token and one before it.
    pub pairs: f64,
}

impl Prefill {
    /// One prompt with `held` leading tokens in the cache and `new` behind them.
    pub fn of(held: f64, new: f64) -> Self {
        Self { prompts: 1.0, tokens: new, pairs: new * (held + new / 2.0) }
    }

    pub(super) fn add(&mut self, other: Self, times: f64) {
        self.prompts += times * other.prompts;
        self.tokens += times * other.tokens;
        self.pairs += times * other.pairs;
    }

    fn features(self) -> [f64; 3] {
        [self.prompts, self.tokens, self.pairs]
    }
}

impl Fit {
    /// Seconds that it takes.
    pub fn seconds(&self, prefill: Prefill) -> f64 {
        self.overhead * prefill.prompts + self.token * prefill.tokens + self.pair * prefill.pairs
    }

    /// Tokens a second, attention aside.
    pub fn rate(&self) -> f64 {
        1.0 / self.token
    }
}

impl Default for Fit {
    fn default() -> Self {
        let [overhead, token, pair] = PRIOR;
        Self { overhead, token, pair }
    }
}

/// The fit of one holder, and the sums that it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Σ xᵢxⱼ of the scaled features, and Σ xᵢy.
    products: [[f64; 3]; 3],
    seconds: [f64; 3],
    fit: Fit,
}

impl Default for Pace {
    fn default() -> Self {
        Self { products: [[0.0; 3]; 3], seconds: [0.0; 3], fit: Fit::default() }
    }
}

impl Pace {
    /// What a prompt costs now.
    pub(super) fn fit(&self) -> Fit {
        self.fit
    }

    /// Learns that a prompt took that long.
    pub(super) fn learn(&mut self, prefill: Prefill, seconds: f64) {
        let keep = 1.0 - 1.0 / MEMORY;
        let mut scaled = prefill.features();
        scaled.iter_mut().zip(SCALE).for_each(|(feature, scale)| *feature /= scale);
        for (row, products) in self.products.iter_mut().enumerate() {
            for (column, product) in products.iter_mut().enumerate() {
                *product = *product * keep + scaled[row] * scaled[column];
            }
            self.seconds[row] = self.seconds[row] * keep + scaled[row] * seconds;
        }
        self.fit = self.solve();
    }

    fn solve(&self) -> Fit {
        // A part that comes out negative is none: noise, or there was nothing to
        // tell it from the others. Attention is the least sure of the three.
        let candidates =
            [[true; 3], [true, true, false], [false, true, true], [false, true, false]];
        let sound = |solution: &[f64; 3]| solution.iter().all(|part| *part >= 0.0);
        let solution = candidates
            .into_iter()
            .filter_map(|parts| self.solve_for(parts))
            .find(sound)
            .unwrap_or(PRIOR);
        Fit {
            overhead: solution[0],
            token: solution[1].clamp(TOKEN_LEAST, TOKEN_MOST),
            pair: solution[2],
        }
    }

    /// Least squares over some of the parts, drawn to the prior; in unscaled units.
    fn solve_for(&self, parts: [bool; 3]) -> Option<[f64; 3]> {
        let mut matrix = self.products;
        let mut right = self.seconds;
        for at in 0..3 {
            matrix[at][at] += PRIOR_SAMPLES;
            right[at] += PRIOR_SAMPLES * PRIOR[at] * SCALE[at];
            if !parts[at] {
                matrix[at] = [0.0; 3];
                matrix.iter_mut().for_each(|row| row[at] = 0.0);
                (matrix[at][at], right[at]) = (1.0, 0.0);
            }
        }
        for pivot in 0..3 {
            let upper = matrix[pivot];
            for row in pivot + 1..3 {
                let factor = matrix[row][pivot] / upper[pivot];
                matrix[row]
                    .iter_mut()
                    .zip(upper)
                    .for_each(|(lower, upper)| *lower -= factor * upper);
                right[row] -= factor * right[pivot];
            }
        }
        let mut solution = [0.0; 3];
        for at in (0..3).rev() {
            let known: f64 = (at + 1..3).map(|other| matrix[at][other] * solution[other]).sum();
            solution[at] = (right[at] - known) / matrix[at][at];
        }
        solution.iter_mut().zip(SCALE).for_each(|(part, scale)| *part /= scale);
        solution.iter().all(|part| part.is_finite()).then_some(solution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.05, "{found} {expected}");
    }

    #[test]
    fn overhead_rate_and_attention_are_learned() {
        let truth = Fit { overhead: 0.03, token: 1.0 / 25_000.0, pair: 5e-10 };
        let mut pace = Pace::default();
        for round in 0..400 {
            let held = f64::from(round % 5) * 4000.0;
            let prefill = Prefill::of(held, f64::from(round % 7) * 3000.0 + 50.0);
            pace.learn(prefill, truth.seconds(prefill));
        }
        for (held, new) in [(0.0, 100.0), (0.0, 5000.0), (16_000.0, 2000.0), (0.0, 60_000.0)] {
            let prefill = Prefill::of(held, new);
            near(pace.fit().seconds(prefill), truth.seconds(prefill));
        }
    }

    #[test]
    fn a_slower_engine_is_noticed() {
        let mut pace = Pace::default();
        let mut run = |rate: f64| {
            for round in 0..300 {
                let tokens = f64::from(round % 5) * 1000.0 + 100.0;
                pace.learn(Prefill::of(0.0, tokens), tokens / rate);
            }
            pace.fit().seconds(Prefill::of(0.0, 2000.0))
        };
        near(run(20_000.0), 0.1);
        near(run(5_000.0), 0.4);
    }

    #[test]
    fn prompts_of_one_length_give_its_time() {
        let mut pace = Pace::default();
        for _ in 0..200 {
            pace.learn(Prefill::of(0.0, 1000.0), 0.1);
        }
        near(pace.fit().seconds(Prefill::of(0.0, 1000.0)), 0.1);
    }

    #[test]
    fn nonsense_can_not_break_it() {
        let mut pace = Pace::default();
        for (tokens, seconds) in [(0.0, 0.0), (0.0, 1e9), (1e12, 0.0), (5.0, 1e-12), (1e18, 1e18)] {
            pace.learn(Prefill::of(tokens, tokens), seconds);
            let fit = pace.fit();
            assert!(fit.rate().is_finite() && fit.rate() > 0.0, "{fit:?}");
            assert!(fit.overhead >= 0.0 && fit.pair >= 0.0, "{fit:?}");
        }
    }
}
