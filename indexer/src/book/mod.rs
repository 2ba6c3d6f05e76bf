/*!
The in-flight book: what was routed and has not finished.

An engine's own figures are news from the past; between two of them every
decision would see the same emptiest worker and herd onto it. So each decision is
booked before it is answered: a request, the tokens that its worker must still
prefill, and the blocks that it will hold there, shared prefixes once. Reports
of the request's life ([`Book::report`], from the filter's timer) move it on:
its first token ends the prefill and teaches how fast the worker is, its end
takes it out.

A report can be lost, a filter may send none at all, and nothing may pile up:

- An engine counts its own requests. Where it counts fewer than are booked, the
  bookings that were silent for longest go, once they were silent for the grace.
- A booking that was silent for the expiry goes, unless the engine's count
  vouches for it; then it has four times as long. Dynamo forgets any request
  after 300 seconds, the long answers too, which it then routes upon.
- While *no* life is reported at all (a filter without lifecycle reports, or the
  seeds' clients), a booking bridges the time until the engine's own next report
  can know of the request, no more: then it goes, and what the engine counts
  beyond the remaining bookings stands for it, with the prompt length that is
  typical there. Without engine reports either, bookings age out as load reports
  do. To believe such bookings for longer was rejected: without ends, a count
  only grows, and what it grows fastest for is the best worker.
- A holder has a most of bookings, and the longest silent goes first.

Whether lives are reported is learned from the reports: the request can not say
so for a filter whose reports do not arrive. Nothing here needs a timer; bookings
are looked through when a holder is looked at, a second apart at most, so that
the same code runs in virtual time.

Locks: one for each holder's bookings, one for the map from id to holder, one
for the tree of active blocks; none is taken while another is held.
*/

mod pace;
mod rank;
mod trie;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use warmpath_protocol::{LifecycleAnswer, LifecycleEvent, LifecycleReport};
use warmpath_radix::Holder;

pub use pace::{Fit, Prefill};
use rank::{Booking, Gone, Key, Lost, Times};
pub use rank::{InFlight, RankBook};
use trie::Active;

use crate::load::Report;

/// How long after the last report lives still count as reported.
const REPORTING: Duration = Duration::from_secs(30);
/// Most blocks in the tree of active blocks: 32 MiB of hashes. A prompt beyond
/// that is booked without its blocks.
const BLOCKS_MOST: usize = 1 << 22;

/// How the book is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookConfig {
    /// Whether the blocks of prompts in flight are counted. Default true.
    pub track_active_blocks: bool,
    /// Whether the tokens still to prefill are counted. Default true.
    pub track_prefill_tokens: bool,
    /// Whether active blocks grow with the output. Default false.
    pub track_output_blocks: bool,
    /// Milliseconds of silence before a booking that the engine does not count goes. Default 5000.
    pub grace_ms: u64,
    /// Milliseconds of silence after which a booking goes. Default 300000.
    pub expiry_ms: u64,
    /// Most bookings of one (worker, rank). Default 4096.
    pub max_requests: usize,
}

impl Default for BookConfig {
    fn default() -> Self {
        Self {
            track_active_blocks: true,
            track_prefill_tokens: true,
            track_output_blocks: false,
            grace_ms: 5000,
            expiry_ms: 300_000,
            max_requests: 4096,
        }
    }
}

/// What is booked with a decision.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The request's id; an empty one can not be reported about.
    pub request_id: &'a str,
    /// The prompt's hashes in the worker's block size.
    pub hashes: &'a [u64],
    /// Length of the prompt in tokens.
    pub tokens: u64,
    /// Leading tokens that the worker holds.
    pub cached: u64,
}

/// All requests in flight.
#[derive(Debug)]
pub struct Book {
    config: BookConfig,
    stale: Duration,
    hasher: DefaultHashBuilder,
    /// Where the booking of a key is.
    places: Mutex<HashMap<Key, Arc<RankBook>>>,
    active: Mutex<Active>,
    /// Milliseconds from `epoch` to the last report, plus one; 0 before the first.
    last_report: AtomicU64,
    epoch: Instant,
    anonymous: AtomicU64,
    metrics: Metrics,
}

impl Book {
    /// An empty book; `stale` is the age past which an engine's report says nothing.
    pub fn new(config: BookConfig, stale: Duration) -> Self {
        Self {
            config,
            stale,
            hasher: DefaultHashBuilder::default(),
            places: Mutex::default(),
            active: Mutex::default(),
            last_report: AtomicU64::new(0),
            epoch: Instant::now(),
            anonymous: AtomicU64::new(0),
            metrics: Metrics::default(),
        }
    }

    /// How it is kept.
    pub fn config(&self) -> &BookConfig {
        &self.config
    }

    /// The part of the book for one holder.
    pub fn rank(&self, holder: Holder) -> Arc<RankBook> {
        Arc::new(RankBook::new(holder))
    }

    /// Books a decision.
    ///
    /// A request that was routed before under the same id is taken to have
    /// ended: a proxy that asks again has given up the first answer.
    pub fn book(&self, rank: &Arc<RankBook>, entry: Entry<'_>, now: Instant) {
        let key = match entry.request_id {
            // Nothing can name it again; any other number will do.
            "" => self.hasher.hash_one(self.anonymous.fetch_add(1, Ordering::Relaxed)),
            id => self.key(id),
        };
        if self.end(key).is_some() {
            self.metrics.lost("replaced");
        }
        let leaf = self.config.track_active_blocks.then(|| self.enter(rank.holder, entry.hashes));
        let cached = entry.cached.min(entry.tokens);
        let booking = Booking {
            booked: now,
            heard: now,
            reported: false,
            uncached: entry.tokens - cached,
            cached,
            prefilling: true,
            output: 0,
            leaf: leaf.flatten(),
        };
        let mut gone = Vec::new();
        rank.state.lock().book(key, booking, self.config.max_requests.max(1), &mut gone);
        self.places.lock().insert(key, Arc::clone(rank));
        self.clean(rank, gone);
    }

    fn enter(&self, holder: Holder, hashes: &[u64]) -> Option<trie::Leaf> {
        let mut active = self.active.lock();
        if active.blocks() + hashes.len() > BLOCKS_MOST {
            drop(active);
            self.metrics.lost("blocks");
            return None;
        }
        Some(active.enter(holder, hashes)?.0)
    }

    /// Takes a batch of reports.
    pub fn report(&self, reports: Vec<LifecycleReport>, now: Instant) -> LifecycleAnswer {
        let mut answer = LifecycleAnswer::default();
        for report in reports {
            if self.apply(&report, now) {
                answer.applied += 1;
            } else {
                answer.unknown.push(report.request_id);
            }
        }
        self.metrics.applied.inc_by(answer.applied);
        self.metrics.unknown.inc_by(answer.unknown.len() as u64);
        answer
    }

    /// Ends a request; whether it was in flight.
    pub fn free(&self, request_id: &str, now: Instant) -> bool {
        self.note_reporting(now);
        self.end(self.key(request_id)).is_some()
    }

    /// Takes back what was booked for a request that never was sent.
    pub fn withdraw(&self, request_id: &str) {
        if !request_id.is_empty() {
            self.end(self.key(request_id));
        }
    }

    /// Notes what an engine reported of itself.
    pub fn engine_report(&self, rank: &RankBook, report: Report, now: Instant) {
        let mut gone = Vec::new();
        rank.state.lock().reconcile(report, self.times(now), &mut gone);
        self.clean(rank, gone);
    }

    /// What is in flight at a holder.
    pub fn in_flight(&self, rank: &RankBook, now: Instant) -> InFlight {
        let mut gone = Vec::new();
        let view = rank.state.lock().view(&self.config, self.times(now), &mut gone);
        self.clean(rank, gone);
        view
    }

    /// The blocks in use, for as long as it takes to look.
    pub fn active(&self) -> ActiveBlocks<'_> {
        ActiveBlocks(self.active.lock())
    }

    /// Forgets everything at a holder.
    pub fn forget(&self, rank: &RankBook) {
        let keys: Vec<Key> = rank.state.lock().bookings.keys().copied().collect();
        for key in keys {
            self.end(key);
        }
    }

    /// Requests in flight, at all holders.
    pub fn requests(&self) -> usize {
        self.places.lock().len()
    }

    /// Shows the counters on `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    fn key(&self, request_id: &str) -> Key {
        self.hasher.hash_one(request_id)
    }

    fn apply(&self, report: &LifecycleReport, now: Instant) -> bool {
        if report.request_id.is_empty() {
            return false;
        }
        let key = self.key(&report.request_id);
        let Some(rank) = self.places.lock().get(&key).cloned() else { return false };
        let mut state = rank.state.lock();
        let Some(booking) = state.bookings.get(&key) else { return false };
        self.note_reporting(now);
        if let Some(cached) = report.cached_tokens {
            self.metrics.promised.inc_by(booking.cached);
            self.metrics.cached.inc_by(cached);
        }
        state.prefilled(key, now, report.event == LifecycleEvent::FirstToken);
        state.heard(key, now, report.tokens);
        drop(state);
        if matches!(report.event, LifecycleEvent::Done | LifecycleEvent::Aborted) {
            self.end(key);
        }
        true
    }

    fn end(&self, key: Key) -> Option<()> {
        let rank = self.places.lock().remove(&key)?;
        let booking = rank.state.lock().end(key)?;
        self.leave(&rank, &booking);
        Some(())
    }

    /// Takes bookings that a holder lost out of the other parts.
    fn clean(&self, rank: &RankBook, gone: Vec<Gone>) {
        for (key, booking, why) in gone {
            self.metrics.lost(why.as_str());
            let mut places = self.places.lock();
            // The id may have been routed again meanwhile.
            if places.get(&key).is_some_and(|place| place.holder == rank.holder) {
                places.remove(&key);
            }
            drop(places);
            self.leave(rank, &booking);
        }
    }

    fn leave(&self, rank: &RankBook, booking: &Booking) {
        if let Some(leaf) = booking.leaf {
            self.active.lock().leave(rank.holder, leaf);
        }
    }

    fn note_reporting(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.epoch).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1);
        self.last_report.store(millis, Ordering::Relaxed);
    }

    fn times(&self, now: Instant) -> Times {
        let reporting = match self.last_report.load(Ordering::Relaxed) {
            0 => false,
            millis => {
                let at = self.epoch + Duration::from_millis(millis - 1);
                now.saturating_duration_since(at) <= REPORTING
            }
        };
        Times {
            now,
            reporting,
            stale: self.stale,
            grace: Duration::from_millis(self.config.grace_ms),
            expiry: Duration::from_millis(self.config.expiry_ms),
        }
    }
}

/// The blocks in use; nothing is booked or ended while this is held.
pub struct ActiveBlocks<'b>(MutexGuard<'b, Active>);

impl ActiveBlocks<'_> {
    /// Blocks that the requests in flight at a holder use, shared ones once.
    pub fn at(&self, holder: Holder) -> usize {
        self.0.at(holder)
    }

    /// Leading blocks of a prompt that are in use, and by how many requests, for
    /// each holder that uses the first; later calls for a holder are about more
    /// blocks and as many requests or fewer.
    pub fn matches(&self, prompt: &[u64], found: impl FnMut(Holder, u32, u32)) {
        self.0.matches(prompt, found);
    }
}

impl Lost {
    fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
            Self::Unreported => "unreported",
            Self::Full => "full",
        }
    }
}

#[derive(Debug, Default)]
struct Metrics {
    applied: Counter,
    unknown: Counter,
    lost: Family<[(&'static str, &'static str); 1], Counter>,
    promised: Counter,
    cached: Counter,
}

impl Metrics {
    fn lost(&self, why: &'static str) {
        self.lost.get_or_create(&[("reason", why)]).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "lifecycle_reports",
            "Reports that moved a request in flight on",
            self.applied.clone(),
        );
        registry.register(
            "lifecycle_unknown",
            "Reports about requests that are not in flight",
            self.unknown.clone(),
        );
        registry.register(
            "book_lost",
            "Bookings that ended without a report, by why; blocks: a prompt was booked without its blocks",
            self.lost.clone(),
        );
        registry.register(
            "book_promised_tokens",
            "Tokens that the index promised as cached, of requests whose answer said how many were",
            self.promised.clone(),
        );
        registry.register(
            "book_cached_tokens",
            "Tokens that engines said they had cached",
            self.cached.clone(),
        );
    }
}

#[cfg(test)]
mod tests;
