/*!
How busy each (worker, rank) is.

An engine's queue is news from the past: between two reports every decision
would see the same emptiest worker and herd onto it. So a decision adds one to
its worker's waiting requests at once, and the next report, from whichever
source, overwrites the guess. Without any source the guesses alone remain, and
spread requests evenly; they are forgotten with the same age as a report.
*/

pub mod capacity;
mod iterations;
pub mod page;
mod prometheus;
pub mod zmq;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// One report of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in the queue.
    pub waiting: f64,
    /// Requests in work, where the source says so.
    pub running: Option<f64>,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: f64,
}

/// What a policy sees of a rank's load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests that wait, our own decisions since the last report included.
    pub waiting: f64,
    /// Requests in work.
    pub running: f64,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: f64,
}

/// The last report, and what was decided since.
#[derive(Debug)]
pub struct LoadCell {
    stale: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    report: Option<Report>,
    booked: f64,
    /// Of the report, or of the first booking without one.
    since: Instant,
}

impl LoadCell {
    /// A cell that heard nothing; `stale` is the age past which it forgets.
    pub fn new(stale: Duration) -> Self {
        let state = State { report: None, booked: 0.0, since: Instant::now() };
        Self { stale, state: Mutex::new(state) }
    }

    /// The load now; what is stale counts as none.
    pub fn load(&self, now: Instant) -> Load {
        let state = *self.state.lock();
        if now.saturating_duration_since(state.since) > self.stale {
            return Load::default();
        }
        let report = state.report.unwrap_or_default();
        Load {
            waiting: report.waiting + state.booked,
            running: report.running.unwrap_or(0.0),
            kv_usage: report.kv_usage,
        }
    }

    /// Takes a report; it replaces what was booked.
    pub fn report(&self, report: Report, now: Instant) {
        let mut state = self.state.lock();
        let running = report.running.or(state.report.and_then(|before| before.running));
        *state = State { report: Some(Report { running, ..report }), booked: 0.0, since: now };
    }

    /// Counts one more request on its way.
    pub fn book(&self, now: Instant) {
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.since) > self.stale {
            *state = State { report: None, booked: 0.0, since: now };
        }
        state.booked += 1.0;
    }
}

/// Counts of refused reports by reason.
#[derive(Debug, Default)]
pub struct Rejected(Mutex<BTreeMap<&'static str, u64>>);

impl Rejected {
    /// Counts one; says whether it is the first of its reason.
    pub fn count(&self, reason: &'static str) -> bool {
        let mut counts = self.0.lock();
        let count = counts.entry(reason).or_default();
        *count += 1;
        *count == 1
    }

    /// The counts now.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_secs(10);

    #[test]
    fn decisions_count_until_the_next_report() {
        let cell = LoadCell::new(STALE);
        let now = Instant::now();
        cell.report(Report { waiting: 2.0, running: Some(3.0), kv_usage: 0.5 }, now);
        cell.book(now);
        assert_eq!(cell.load(now), Load { waiting: 3.0, running: 3.0, kv_usage: 0.5 });
        cell.report(Report { waiting: 0.0, running: None, kv_usage: 0.25 }, now);
        assert_eq!(cell.load(now), Load { waiting: 0.0, running: 3.0, kv_usage: 0.25 });
    }

    #[test]
    fn a_stale_report_counts_as_unknown() {
        let cell = LoadCell::new(STALE);
        let now = Instant::now();
        cell.report(Report { waiting: 2.0, running: None, kv_usage: 0.5 }, now);
        let late = now + STALE + Duration::from_millis(1);
        assert_eq!(cell.load(late), Load::default());
        cell.book(late);
        assert_eq!(cell.load(late).waiting, 1.0);
    }

    #[test]
    fn without_any_report_decisions_count_and_are_forgotten() {
        let cell = LoadCell::new(STALE);
        let now = Instant::now();
        cell.book(now);
        cell.book(now);
        assert_eq!(cell.load(now).waiting, 2.0);
        assert_eq!(cell.load(now + 2 * STALE).waiting, 0.0);
    }
}
