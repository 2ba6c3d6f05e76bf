//! How long the indexer has been waited for, our own work not counted.
//!
//! Envoy's timer on a call is no measure of the indexer. Its event loop reads
//! the clock once a round and sets timers from that reading: a deadline of 20 ms
//! that is set after 30 ms of tokenizing has passed already when it is set. And
//! an answer that is there waits while the same thread tokenizes for others:
//! under a burst of long prompts every decision would time out, and the breaker
//! would blame the indexer for it. So the filter itself looks, a few times in
//! each deadline, for calls that waited too long, and does not count the time
//! that it spent on requests since; Envoy's timer is only the backstop.

use std::time::Duration;

/// By so much Envoy's own timeout is longer than the deadline.
pub const BACKSTOP: Duration = Duration::from_secs(1);

/// The work of one VM.
#[derive(Debug, Default)]
pub struct Patience {
    worked: Duration,
}

/// A wait that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    since: Duration,
    worked: Duration,
    is_held: bool,
}

impl Wait {
    /// Takes down that the other side asked for so much more time.
    pub fn prolong(&mut self, more: Duration) {
        self.since = self.since.saturating_add(more);
        self.is_held = true;
    }

    /// Whether it did.
    pub fn is_held(&self) -> bool {
        self.is_held
    }
}

impl Patience {
    /// Takes down that a request was worked on.
    pub fn worked(&mut self, from: Duration, to: Duration) {
        self.worked = self.worked.saturating_add(to.saturating_sub(from));
    }

    /// Begins to wait.
    pub fn wait(&self, now: Duration) -> Wait {
        Wait { since: now, worked: self.worked, is_held: false }
    }

    /// How long the wait has lasted.
    pub fn waited(&self, wait: Wait, now: Duration) -> Duration {
        let worked = self.worked.saturating_sub(wait.worked);
        now.saturating_sub(wait.since).saturating_sub(worked)
    }

    /// How often to look whether a deadline has passed.
    pub fn period(deadline: Duration) -> Duration {
        deadline.checked_div(4).unwrap_or(deadline).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_work_is_no_waiting() {
        let at = Duration::from_millis;
        let mut patience = Patience::default();
        patience.worked(at(0), at(30));
        let wait = patience.wait(at(30));
        assert_eq!(patience.waited(wait, at(50)), at(20));
        patience.worked(at(35), at(48));
        assert_eq!(patience.waited(wait, at(50)), at(7));
    }

    #[test]
    fn a_hold_that_was_asked_for_is_no_waiting() {
        let at = Duration::from_millis;
        let patience = Patience::default();
        let mut wait = patience.wait(at(0));
        assert!(!wait.is_held());
        wait.prolong(at(500));
        assert!(wait.is_held());
        assert_eq!(patience.waited(wait, at(499)), at(0));
        assert_eq!(patience.waited(wait, at(520)), at(20));
    }

    #[test]
    fn a_clock_set_back_is_no_waiting() {
        let patience = Patience::default();
        let wait = patience.wait(Duration::from_secs(9));
        assert_eq!(patience.waited(wait, Duration::ZERO), Duration::ZERO);
    }
}
