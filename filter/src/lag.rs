//! How far Envoy's timers lag behind the clock.
//!
//! Envoy's event loop reads the clock once a round and sets timers from that
//! reading. A deadline of 20 ms that is set after 30 ms of tokenizing has
//! therefore passed already when it is set, and so it has when another
//! request's 30 ms came earlier in the same round. The filter can not see where
//! rounds begin, but it knows two bounds: work that follows other work of ours
//! after a pause did not share its round, and the answer to a call came in a
//! round that began after the call was made.

use std::time::Duration;

/// Longer than anything between two requests' work in one round.
const PAUSE: Duration = Duration::from_millis(2);
/// No round lasts longer; a clock that was set forward must not stop deadlines.
const LONGEST_ROUND: Duration = Duration::from_secs(1);

/// The earliest time at which the current round may have begun.
#[derive(Debug, Default)]
pub struct Lag {
    began: Duration,
    worked_until: Duration,
}

impl Lag {
    /// A request's work begins.
    pub fn begin(&mut self, now: Duration) {
        if now.saturating_sub(self.worked_until) > PAUSE {
            self.began = now;
        }
    }

    /// A request's work ends; by so much a timer set now must be longer.
    pub fn end(&mut self, now: Duration) -> Duration {
        self.worked_until = now;
        now.saturating_sub(self.began).min(LONGEST_ROUND)
    }

    /// The answer to a call that was made at `made` is here.
    pub fn answered(&mut self, made: Duration) {
        self.began = self.began.max(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(10_000 + milliseconds)
    }

    #[test]
    fn work_of_one_round_adds_up() {
        let mut lag = Lag::default();
        lag.begin(at(0));
        assert_eq!(lag.end(at(30)).as_millis(), 30);
        lag.begin(at(31));
        assert_eq!(lag.end(at(50)).as_millis(), 50);
    }

    #[test]
    fn a_pause_is_a_new_round() {
        let mut lag = Lag::default();
        lag.begin(at(0));
        lag.end(at(30));
        lag.begin(at(33));
        assert_eq!(lag.end(at(34)).as_millis(), 1);
    }

    #[test]
    fn an_answer_is_of_a_later_round_than_its_call() {
        let mut lag = Lag::default();
        lag.begin(at(0));
        lag.end(at(30));
        lag.answered(at(30));
        lag.begin(at(31));
        assert_eq!(lag.end(at(36)).as_millis(), 6);
        lag.answered(at(3));
        lag.begin(at(37));
        assert_eq!(lag.end(at(38)).as_millis(), 8);
    }

    #[test]
    fn a_clock_that_jumps_does_not_stop_deadlines() {
        let mut lag = Lag::default();
        lag.begin(at(0));
        assert_eq!(lag.end(at(9_000_000)), LONGEST_ROUND);
        lag.begin(at(5));
        assert_eq!(lag.end(at(6)).as_millis(), 6);
    }
}
