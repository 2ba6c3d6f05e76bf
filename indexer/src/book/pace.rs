//! How fast one holder prefills, learned from first tokens.
//!
//! A prompt keeps its holder busy from when the one before it got its first
//! token (or from when it was routed, if nothing was before it) to its own first
//! token. That stretch is fitted by `overhead + tokens / rate` with least squares
//! whose memory fades, so that a rate that decoding slows down is the rate of
//! now. A rate from the time since the request was routed was rejected: it counts
//! every queue as often as there are requests in it.

/// Samples that count; older ones fade.
const MEMORY: f64 = 64.0;
/// What is believed before the first sample, and how firmly, in samples.
const PRIOR_SAMPLES: f64 = 2.0;
const PRIOR_TOKENS: f64 = 2048.0;
const PRIOR_OVERHEAD: f64 = 0.02;
const PRIOR_RATE: f64 = 10_000.0;
/// Slowest rate that is believed, in tokens a second.
const RATE_LEAST: f64 = 10.0;

/// The fit of one holder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    weight: f64,
    tokens: f64,
    seconds: f64,
    tokens_tokens: f64,
    tokens_seconds: f64,
    fit: Fit,
}

/// What a prompt costs a holder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Seconds that every prompt costs.
    pub overhead: f64,
    /// Tokens a second.
    pub rate: f64,
}

impl Fit {
    /// Seconds of prefill for that many tokens.
    pub fn seconds(&self, tokens: f64) -> f64 {
        self.overhead + tokens / self.rate
    }
}

impl Default for Fit {
    fn default() -> Self {
        Self { overhead: PRIOR_OVERHEAD, rate: PRIOR_RATE }
    }
}

impl Default for Pace {
    fn default() -> Self {
        let fit = Fit::default();
        let mut pace = Self {
            weight: 0.0,
            tokens: 0.0,
            seconds: 0.0,
            tokens_tokens: 0.0,
            tokens_seconds: 0.0,
            fit,
        };
        // Two points of the line, so that the first sample does not bend it at will.
        for tokens in [0.0, 2.0 * PRIOR_TOKENS] {
            pace.add(PRIOR_SAMPLES / 2.0, tokens, fit.seconds(tokens));
        }
        pace
    }
}

impl Pace {
    /// What a prompt costs now.
    pub(super) fn fit(&self) -> Fit {
        self.fit
    }

    /// Learns that a prompt of that many uncached tokens took that long.
    pub(super) fn learn(&mut self, tokens: f64, seconds: f64) {
        let keep = 1.0 - 1.0 / MEMORY;
        for sum in [
            &mut self.weight,
            &mut self.tokens,
            &mut self.seconds,
            &mut self.tokens_tokens,
            &mut self.tokens_seconds,
        ] {
            *sum *= keep;
        }
        self.add(1.0, tokens, seconds);
        self.fit = self.solve();
    }

    fn add(&mut self, weight: f64, tokens: f64, seconds: f64) {
        self.weight += weight;
        self.tokens += weight * tokens;
        self.seconds += weight * seconds;
        self.tokens_tokens += weight * tokens * tokens;
        self.tokens_seconds += weight * tokens * seconds;
    }

    fn solve(&self) -> Fit {
        let (tokens, seconds) = (self.tokens / self.weight, self.seconds / self.weight);
        let variance = self.tokens_tokens / self.weight - tokens * tokens;
        let covariance = self.tokens_seconds / self.weight - tokens * seconds;
        let slope = covariance / variance;
        let through_origin = seconds / tokens.max(1.0);
        // Prompts of one length tell nothing of the slope, and noise may make the
        // overhead negative: then all of the time is the tokens'.
        let usable = variance > tokens && slope > 0.0 && slope <= through_origin;
        let (slope, overhead) =
            if usable { (slope, seconds - slope * tokens) } else { (through_origin, 0.0) };
        Fit { overhead, rate: (1.0 / slope.max(1e-9)).max(RATE_LEAST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_and_rate_are_learned() {
        let mut pace = Pace::default();
        for round in 0..200 {
            let tokens = f64::from(round % 7) * 900.0 + 50.0;
            pace.learn(tokens, 0.03 + tokens / 25_000.0);
        }
        let fit = pace.fit();
        assert!((fit.overhead - 0.03).abs() < 0.002, "{fit:?}");
        assert!((fit.rate / 25_000.0 - 1.0).abs() < 0.05, "{fit:?}");
    }

    #[test]
    fn a_slower_engine_is_noticed() {
        let mut pace = Pace::default();
        let mut run = |rate: f64| {
            for round in 0..300 {
                let tokens = f64::from(round % 5) * 1000.0 + 100.0;
                pace.learn(tokens, tokens / rate);
            }
            pace.fit().rate
        };
        assert!(run(20_000.0) > 15_000.0);
        assert!(run(5_000.0) < 6_000.0);
    }

    #[test]
    fn prompts_of_one_length_give_one_rate() {
        let mut pace = Pace::default();
        for _ in 0..2000 {
            pace.learn(1000.0, 0.1);
        }
        assert!((pace.fit().seconds(1000.0) - 0.1).abs() < 0.01, "{:?}", pace.fit());
    }

    #[test]
    fn nonsense_can_not_break_it() {
        let mut pace = Pace::default();
        for (tokens, seconds) in [(0.0, 0.0), (0.0, 1e9), (1e12, 0.0), (5.0, 1e-12)] {
            pace.learn(tokens, seconds);
            let fit = pace.fit();
            assert!(fit.rate.is_finite() && fit.rate > 0.0 && fit.overhead >= 0.0, "{fit:?}");
        }
    }
}
