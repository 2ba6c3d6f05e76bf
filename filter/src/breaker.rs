//! Stops calling an indexer that does not answer.
//!
//! Without it an indexer that swallows packets would add the whole deadline to
//! every request. One breaker per VM: Envoy's workers share nothing, and each
//! learns within a few requests.

use std::time::Duration;

/// Counts failures in a row; see [`Breaker::failed`].
#[derive(Debug)]
pub struct Breaker {
    failures_to_open: u32,
    open_for: Duration,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { since: Duration },
    Probing,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(failures_to_open: u32, open_for: Duration) -> Self {
        Self { failures_to_open, open_for, failures: 0, state: State::Closed }
    }

    /// Whether a call would be refused at `now`.
    ///
    /// A clock that was set back does not hold the breaker open.
    pub fn refuses(&self, now: Duration) -> bool {
        match self.state {
            State::Closed => false,
            State::Probing => true,
            State::Open { since } => {
                now.checked_sub(since).is_some_and(|passed| passed < self.open_for)
            }
        }
    }

    /// Takes leave to call at `now`; what follows must be told to
    /// [`answered`](Self::answered) or [`failed`](Self::failed). The first call after the pause is the probe:
    /// until it is answered no other is let through.
    pub fn admit(&mut self, now: Duration) -> bool {
        if self.refuses(now) {
            return false;
        }
        if self.is_open() {
            self.state = State::Probing;
        }
        true
    }

    /// Whether calls are refused, or the probe is out.
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// An answer of any age shows that the indexer lives, and closes.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
    }

    /// A call failed; if it was the probe, this opens anew.
    pub fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            State::Closed => self.failures >= self.failures_to_open,
            State::Probing => true,
            State::Open { .. } => false,
        };
        if opens {
            self.state = State::Open { since: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn open_at(now: Duration) -> Breaker {
        let mut breaker = Breaker::new(2, at(100));
        breaker.failed(now);
        assert!(!breaker.refuses(now));
        breaker.failed(now);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        assert!(open_at(at(0)).refuses(at(99)));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_anew() {
        let mut breaker = Breaker::new(2, at(100));
        breaker.failed(at(0));
        breaker.answered();
        breaker.failed(at(0));
        assert!(!breaker.is_open());
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = open_at(at(0));
        assert!(breaker.admit(at(100)));
        assert!(!breaker.admit(at(100)), "one probe at a time");
        breaker.failed(at(120));
        assert!(breaker.refuses(at(219)));
        assert!(breaker.admit(at(220)));
        breaker.answered();
        assert!(breaker.admit(at(230)) && breaker.admit(at(230)));
    }

    #[test]
    fn failures_of_calls_from_before_do_not_prolong_the_pause() {
        let mut breaker = open_at(at(0));
        breaker.failed(at(90));
        assert!(breaker.admit(at(100)));
    }

    #[test]
    fn a_clock_set_back_does_not_hold_it_open() {
        assert!(!open_at(at(1000)).refuses(at(1)));
    }
}
