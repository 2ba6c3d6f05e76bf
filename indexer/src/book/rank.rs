//! What is in flight at one holder.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use warmpath_radix::Holder;

use super::BookConfig;
use super::pace::{Fit, Pace, Prefill};
use super::trie::Leaf;
use crate::load::Report;

/// How often a holder's bookings are looked through for lost ones.
const SWEEP: Duration = Duration::from_secs(1);
/// How long after a decision an engine's own report may still not know of the
/// request: the way to the engine, its tokenizer, and the age of its figures.
const SETTLE: Duration = Duration::from_secs(1);
/// How many times the expiry a booking outlasts that the engine's count vouches for.
const VOUCHED: u32 = 4;
/// Weight of one booking in what is typical.
const TYPICAL: f64 = 1.0 / 32.0;

/// A booking's key; see [`super::Book`].
pub(super) type Key = u64;

/// The bookings of one (worker, rank).
#[derive(Debug)]
pub struct RankBook {
    pub(super) holder: Holder,
    pub(super) state: Mutex<State>,
}

/// What is in flight at a holder, as a policy sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InFlight {
    /// Requests.
    pub requests: f64,
    /// Requests among them whose prompt is not prefilled yet.
    pub prefilling: f64,
    /// Prompt tokens that it has not prefilled yet, as far as it must.
    pub prefill_tokens: f64,
    /// Output tokens of the requests that are not done.
    pub output_tokens: f64,
    /// Seconds until it would begin with another prompt.
    pub wait: f64,
    /// What another prompt would cost it.
    pub fit: Fit,
}

/// One routed request.
#[derive(Debug)]
pub(super) struct Booking {
    pub(super) booked: Instant,
    /// Of the last report about it, or of its booking.
    pub(super) heard: Instant,
    /// Whether anything was ever reported about it.
    pub(super) reported: bool,
    /// Tokens to prefill.
    pub(super) uncached: u64,
    /// Leading tokens that the index promised.
    pub(super) cached: u64,
    /// Whether they are still to be prefilled.
    pub(super) prefilling: bool,
    pub(super) output: u64,
    pub(super) leaf: Option<Leaf>,
}

impl Booking {
    fn prefill(&self) -> Prefill {
        Prefill::of(self.cached as f64, self.uncached as f64)
    }
}

/// Why a booking ended without a report of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lost {
    /// Silent for too long.
    Age,
    /// The engine counts fewer requests than are booked.
    Count,
    /// Nobody reports, and the engine's own figures now tell of it.
    Unreported,
    /// There were too many.
    Full,
}

/// A booking that is to be taken out of the other parts of the book.
pub(super) type Gone = (Key, Booking, Lost);

#[derive(Debug)]
pub(super) struct State {
    pub(super) bookings: HashMap<Key, Booking>,
    /// Those not prefilled yet, in the order in which they were routed.
    queue: VecDeque<Key>,
    prefill: Prefill,
    output_tokens: u64,
    /// When a prompt was last known to be prefilled.
    progressed: Instant,
    pace: Pace,
    typical_tokens: f64,
    beyond: Beyond,
    swept: Instant,
}

/// What the engine's last report knew of beyond the bookings: requests of other
/// routers, and, where nobody reports lives, our own.
#[derive(Clone, Copy, Debug)]
struct Beyond {
    requests: f64,
    waiting: f64,
    /// Everything that the engine counted.
    count: Option<f64>,
    at: Option<Instant>,
}

/// What the book as a whole knows when it looks at one holder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) now: Instant,
    /// Whether lives are being reported at all.
    pub(super) reporting: bool,
    /// Age past which an engine's report says nothing.
    pub(super) stale: Duration,
    pub(super) grace: Duration,
    pub(super) expiry: Duration,
}

impl Times {
    fn since(&self, then: Instant) -> Duration {
        self.now.saturating_duration_since(then)
    }
}

impl RankBook {
    pub(super) fn new(holder: Holder) -> Self {
        let now = Instant::now();
        let beyond = Beyond { requests: 0.0, waiting: 0.0, count: None, at: None };
        let state = State {
            bookings: HashMap::new(),
            queue: VecDeque::new(),
            prefill: Prefill::default(),
            output_tokens: 0,
            progressed: now,
            pace: Pace::default(),
            typical_tokens: 0.0,
            beyond,
            swept: now,
        };
        Self { holder, state: Mutex::new(state) }
    }
}

impl State {
    /// What is in flight; looks for lost bookings now and then.
    pub(super) fn view(
        &mut self,
        config: &BookConfig,
        times: Times,
        gone: &mut Vec<Gone>,
    ) -> InFlight {
        if times.since(self.swept) >= SWEEP {
            self.sweep(times, gone);
        }
        let beyond = self.beyond(times);
        let fit = self.pace.fit();
        let prefilling = self.queue.len() as f64 + beyond.waiting;
        let (mut prefill_tokens, mut wait) = (0.0, 0.0);
        if config.track_prefill_tokens {
            let mut prefill = self.prefill;
            prefill.add(Prefill::of(0.0, self.typical_tokens), beyond.waiting);
            prefill_tokens = prefill.tokens;
            wait = fit.seconds(prefill) - self.progress(times, fit);
        }
        InFlight {
            requests: self.bookings.len() as f64 + beyond.requests,
            prefilling,
            prefill_tokens,
            output_tokens: self.output_tokens as f64,
            wait: wait.max(0.0),
            fit,
        }
    }

    /// Seconds of prefill that must be done by now.
    fn progress(&self, times: Times, fit: Fit) -> f64 {
        let Some(front) = self.queue.front().and_then(|key| self.bookings.get(key)) else {
            return 0.0;
        };
        let begun = front.booked.max(self.progressed);
        let worked = times.since(begun).as_secs_f64();
        if times.reporting {
            // The oldest may be slow, but it is not done while nobody says so.
            worked.min(fit.seconds(front.prefill()))
        } else {
            worked
        }
    }

    pub(super) fn book(&mut self, key: Key, booking: Booking, most: usize, gone: &mut Vec<Gone>) {
        if self.bookings.len() >= most {
            let oldest = self.bookings.iter().min_by_key(|(_, one)| one.heard).map(|(key, _)| *key);
            gone.extend(oldest.and_then(|key| Some((key, self.end(key)?, Lost::Full))));
        }
        self.prefill.add(booking.prefill(), 1.0);
        self.typical_tokens += TYPICAL * (booking.uncached as f64 - self.typical_tokens);
        self.queue.push_back(key);
        self.bookings.insert(key, booking);
    }

    /// Notes that a prompt is prefilled. `seen`: that its first token came just
    /// now, so that there is something to learn from when.
    pub(super) fn prefilled(&mut self, key: Key, now: Instant, seen: bool) {
        let Some(booking) = self.bookings.get_mut(&key).filter(|one| one.prefilling) else {
            return;
        };
        booking.prefilling = false;
        let (prefill, booked) = (booking.prefill(), booking.booked);
        self.unqueue(key, prefill);
        if seen {
            let begun = booked.max(self.progressed);
            let seconds = now.saturating_duration_since(begun).as_secs_f64();
            self.pace.learn(prefill, seconds);
            self.progressed = now;
        }
    }

    /// Notes that something was heard of a request, and its output so far.
    pub(super) fn heard(&mut self, key: Key, now: Instant, output: Option<u64>) {
        let Some(booking) = self.bookings.get_mut(&key) else { return };
        booking.heard = now;
        booking.reported = true;
        // Reports may overtake each other; what was generated stays generated.
        let output = output.unwrap_or(0).max(booking.output);
        self.output_tokens += output - booking.output;
        booking.output = output;
    }

    pub(super) fn end(&mut self, key: Key) -> Option<Booking> {
        let booking = self.bookings.remove(&key)?;
        if booking.prefilling {
            self.unqueue(key, booking.prefill());
        }
        self.output_tokens -= booking.output;
        Some(booking)
    }

    fn unqueue(&mut self, key: Key, prefill: Prefill) {
        self.prefill.add(prefill, -1.0);
        if let Some(at) = self.queue.iter().position(|one| *one == key) {
            self.queue.remove(at);
        }
        if self.queue.is_empty() {
            // Sums of floats do not come back to nothing by themselves.
            self.prefill = Prefill::default();
        }
    }

    /// Holds the bookings against what the engine itself counts.
    pub(super) fn reconcile(&mut self, report: Report, times: Times, gone: &mut Vec<Gone>) {
        let count = report.running.map(|running| running + report.waiting);
        let lost: Vec<(Key, Lost)> = if times.reporting {
            let excess = count.map_or(0.0, |count| self.bookings.len() as f64 - count);
            let mut silent: Vec<(Instant, Key)> = self
                .bookings
                .iter()
                .filter(|(_, one)| times.since(one.heard) > times.grace)
                .map(|(key, one)| (one.heard, *key))
                .collect();
            silent.sort_unstable();
            // Negative excess saturates at none.
            silent.into_iter().take(excess as usize).map(|(_, key)| (key, Lost::Count)).collect()
        } else {
            let settled = |one: &Booking| !one.reported && times.since(one.booked) > SETTLE;
            let settled = self.bookings.iter().filter(|(_, one)| settled(one));
            settled.map(|(key, _)| (*key, Lost::Unreported)).collect()
        };
        self.lose(lost, gone);
        self.beyond = Beyond {
            requests: count.map_or(0.0, |count| (count - self.bookings.len() as f64).max(0.0)),
            waiting: (report.waiting - self.queue.len() as f64).max(0.0),
            count,
            at: Some(times.now),
        };
        if count.is_none() {
            self.beyond.requests = self.beyond.waiting;
        }
        if times.since(self.swept) >= SWEEP {
            self.sweep(times, gone);
        }
    }

    fn beyond(&self, times: Times) -> Beyond {
        if self.beyond.at.is_some_and(|at| times.since(at) <= times.stale) {
            return self.beyond;
        }
        Beyond { requests: 0.0, waiting: 0.0, count: None, at: None }
    }

    fn sweep(&mut self, times: Times, gone: &mut Vec<Gone>) {
        self.swept = times.now;
        let count = self.beyond(times).count;
        let vouched = count.is_some_and(|count| count >= self.bookings.len() as f64);
        let expiry = if vouched { times.expiry * VOUCHED } else { times.expiry };
        let lost = |one: &Booking| {
            let silent = times.since(one.heard);
            if !times.reporting && !one.reported {
                (silent > times.stale).then_some(Lost::Unreported)
            } else {
                (silent > expiry).then_some(Lost::Age)
            }
        };
        let lost: Vec<_> =
            self.bookings.iter().filter_map(|(key, one)| Some((*key, lost(one)?))).collect();
        self.lose(lost, gone);
    }

    fn lose(&mut self, lost: Vec<(Key, Lost)>, gone: &mut Vec<Gone>) {
        gone.extend(lost.into_iter().filter_map(|(key, why)| Some((key, self.end(key)?, why))));
    }
}
