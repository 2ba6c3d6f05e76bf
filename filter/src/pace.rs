//! How much text fits into a slice of time: learned from the slices before.
//!
//! A slice is asked for in bytes and wanted in microseconds. What a byte costs differs
//! tenfold between prose and adversarial text, and between machines; so the budget
//! follows the speed that was measured, at once when that was lower than thought,
//! slowly when it was higher.

use std::time::Duration;

/// A slice is worked off in so many steps, with a look at the clock after each.
const STEPS: u32 = 4;
/// Until something was measured: 20 MB/s, a slow machine's speed.
const FIRST: u64 = 20;
/// Faster text comes mostly out of the cache and says nothing of the rest.
const FASTEST: u64 = 128;
/// The least a step is given, so that each gets somewhere.
const LEAST_BYTES: u64 = 1 << 10;

/// The speed of one VM.
#[derive(Debug)]
pub struct Pace {
    slice: Duration,
    /// Megabytes a second, which is bytes a microsecond.
    speed: u64,
}

impl Pace {
    /// Aims at slices of this length.
    pub fn new(slice: Duration) -> Self {
        Self { slice, speed: FIRST }
    }

    /// Bytes of text for the next step.
    pub fn budget(&self) -> usize {
        let step = self.slice.checked_div(STEPS).unwrap_or(self.slice);
        let step = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        let bytes = step.saturating_mul(self.speed).max(LEAST_BYTES);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Learns that a step with this budget took so long, and was not its job's last:
    /// that one may have done much less.
    pub fn learn(&mut self, budget: usize, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let seen = (budget as u64).checked_div(took).unwrap_or(FASTEST).clamp(1, FASTEST);
        let smoothed = self.speed.saturating_mul(3).saturating_add(seen).checked_div(4);
        self.speed = if seen < self.speed { seen } else { smoothed.unwrap_or(seen).max(1) };
    }

    /// Whether a slice that began `passed` ago, and whose last step took `last`, has
    /// room for another.
    pub fn has_room(&self, passed: Duration, last: Duration) -> bool {
        passed.saturating_add(last) <= self.slice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    #[test]
    fn a_slow_step_counts_at_once_and_a_fast_one_slowly() {
        let mut pace = Pace::new(us(2000));
        assert_eq!(pace.budget(), 10_000);
        pace.learn(10_000, us(5_000));
        assert_eq!(pace.budget(), 1_024, "2 MB/s would be 1,000 bytes");
        for _ in 0..50 {
            pace.learn(10_000, us(100));
        }
        assert!((40_000..=50_000).contains(&pace.budget()), "{}", pace.budget());
        pace.learn(10_000, us(0));
        assert!(pace.budget() <= 64_000, "what comes from the cache is not believed");
    }

    #[test]
    fn a_slice_ends_before_the_step_that_would_be_too_long() {
        let pace = Pace::new(us(2000));
        assert!(pace.has_room(us(1500), us(500)));
        assert!(!pace.has_room(us(1501), us(500)));
    }
}
