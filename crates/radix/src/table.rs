//! Engine hash to place: one open-addressing table for each holder and tier.
//!
//! Most of the index's memory and most of a write's time are here. A slot is the hash
//! and four bytes, and five of them with a counter are one cache line: a search reads
//! one line, mostly, and compares without branching. The counter says how many keys
//! found the bucket full and went on, so that a search knows where to stop. A removal
//! calls one of them back, and so the table is after weeks of churn what a fresh one
//! would be. It grows by a quarter where others double, and is then still more than
//! half full.
//!
//! Work comes in batches of up to [`BATCH`] keys: [`Table::homes`] hashes them and
//! asks memory for all their buckets at once, and what follows does not wait.
//!
//! Rejected: buckets without calling back (after a few turnovers of the cache a
//! search at the same load reads ten buckets where it read two); single slots with
//! linear probing (moving them back was half the cost of a removal); a general hash
//! map (one more byte a slot, a load of 44 % after each doubling); two buckets to
//! choose from (two lines read for each key that is new, and most are); keys of 32
//! bytes for engines that name blocks by digests (see [`crate::EngineHash`]).

use std::hash::BuildHasher;

use crate::EngineHash;
use crate::run::Place;

/// The place that is nobody's; [`crate::run`] never gives it out.
pub(crate) const NOWHERE: Place = Place::MAX;

/// 5 × (8 + 4) + 4 bytes are a cache line.
const SLOTS: usize = 5;
const ALL: u32 = (1 << SLOTS) - 1;

/// Of ten slots so many are full when the table grows.
const FULL: usize = 7;

/// An odd number without pattern.
const MIXER: u128 = 0x9e37_79b9_7f4a_7c15;

/// Keys that are worked on together. A core has not many more reads under way.
pub(crate) const BATCH: usize = 32;

/// Buckets where the searches for the keys of a batch begin.
pub(crate) type Homes = [u32; BATCH];

#[derive(Copy, Clone, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    keys: [u64; SLOTS],
    places: [Place; SLOTS],
    state: State,
}

/// From the lowest bit: which slots are in use, which of them hold keys that belong to
/// buckets before this one, and how many keys in buckets behind it passed it, which
/// would be here or before had there been room.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
struct State(u32);

impl State {
    const PASSED: u32 = 1 << (2 * SLOTS);

    fn used(self) -> u32 {
        self.0 & ALL
    }

    fn strangers(self) -> u32 {
        self.0 >> SLOTS & ALL
    }

    fn was_passed(self) -> bool {
        self.0 >= Self::PASSED
    }

    fn fill(&mut self, slot: usize, is_stranger: bool) {
        self.0 |= 1 << slot | u32::from(is_stranger) << (slot + SLOTS);
    }

    fn empty(&mut self, slot: usize) {
        self.0 &= !(1 << slot | 1 << (slot + SLOTS));
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    buckets: Box<[Bucket]>,
    used: usize,
    /// So that nobody can choose keys that meet in one bucket.
    secret: u64,
}

impl Default for Table {
    fn default() -> Self {
        let secret = hashbrown::DefaultHashBuilder::default().hash_one(0_u64);
        Self { buckets: Box::default(), used: 0, secret }
    }
}

impl Bucket {
    /// The slots that hold this key: one or none.
    fn hits(&self, key: u64) -> u32 {
        let equal = self
            .keys
            .iter()
            .enumerate()
            .fold(0, |hits, (slot, known)| hits | u32::from(*known == key) << slot);
        equal & self.state.used()
    }
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn heap(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Heap that a reservation would take while it lasts, beyond what there is.
    pub(crate) fn growth(&self, more: usize) -> usize {
        self.grown(more).map_or(0, |buckets| buckets * size_of::<Bucket>())
    }

    /// The buckets to grow to, if that many keys more ask for it.
    fn grown(&self, more: usize) -> Option<usize> {
        let buckets = self.buckets.len();
        let is_full = (self.used + more) * 10 > buckets * SLOTS * FULL;
        let needed = || ((self.used + more) * 10).div_ceil(SLOTS * FULL);
        is_full.then(|| needed().max(buckets + buckets / 4 + 1).next_multiple_of(2))
    }

    /// Makes room for that many keys more.
    pub(crate) fn reserve(&mut self, more: usize) {
        if let Some(buckets) = self.grown(more) {
            self.resize(buckets);
        }
    }

    /// Gives back what removals left, if that is much and the smaller table `fits` beside
    /// this one, which it must for a moment.
    pub(crate) fn settle(&mut self, fits: impl FnOnce(usize) -> bool) {
        if self.used == 0 {
            self.buckets = Box::default();
        } else if self.used * 20 < self.buckets.len() * SLOTS * FULL {
            // Some four sevenths of what it may be, far from both limits.
            let buckets = (self.used.div_ceil(2) + 1).next_multiple_of(2);
            if fits(buckets * size_of::<Bucket>()) {
                self.resize(buckets);
            }
        }
    }

    /// Where the searches for these keys begin. Reads those buckets: reads of many
    /// keys in a row overlap in the memory system; the searches then do not wait.
    pub(crate) fn homes(&self, keys: impl Iterator<Item = EngineHash>) -> Homes {
        let mut homes = [0; BATCH];
        if self.buckets.is_empty() {
            return homes;
        }
        let mut read = 0;
        for (home, key) in homes.iter_mut().zip(keys) {
            let at = self.home(key.0);
            read ^= self.buckets[at].state.0 ^ self.buckets[at ^ 1].state.0;
            *home = at as u32;
        }
        std::hint::black_box(read);
        homes
    }

    pub(crate) fn get(&self, key: EngineHash) -> Option<Place> {
        if self.buckets.is_empty() {
            return None;
        }
        let (bucket, slot) = self.find(self.home(key.0), key.0)?;
        Some(self.buckets[bucket].places[slot])
    }

    /// Binds a key to a place; what it was bound to. There must be room for it.
    #[inline]
    pub(crate) fn insert(&mut self, home: u32, key: EngineHash, place: Place) -> Option<Place> {
        let bucket = &mut self.buckets[home as usize];
        if bucket.hits(key.0) == 0 && !bucket.state.was_passed() && bucket.state.used() != ALL {
            let slot = bucket.state.used().trailing_ones() as usize;
            (bucket.keys[slot], bucket.places[slot]) = (key.0, place);
            bucket.state.fill(slot, false);
            self.used += 1;
            return None;
        }
        self.insert_slowly(home as usize, key.0, place)
    }

    #[inline(never)]
    fn insert_slowly(&mut self, home: usize, key: u64, place: Place) -> Option<Place> {
        if let Some((bucket, slot)) = self.find(home, key) {
            return Some(std::mem::replace(&mut self.buckets[bucket].places[slot], place));
        }
        self.add(home, key, place);
        None
    }

    /// Unbinds a key; [`Self::settle`] is to follow.
    #[inline]
    pub(crate) fn remove(&mut self, home: u32, key: EngineHash) -> Option<Place> {
        if self.buckets.is_empty() {
            return None;
        }
        let home = home as usize;
        let (bucket, slot) = self.find(home, key.0)?;
        self.buckets[bucket].state.empty(slot);
        let place = self.buckets[bucket].places[slot];
        self.used -= 1;
        self.unpass(home, home, bucket);
        if self.buckets[bucket].state.was_passed() {
            self.refill(bucket, slot);
        }
        Some(place)
    }

    /// The bindings, from that bucket on and around.
    pub(crate) fn iter_from(&self, start: usize) -> impl Iterator<Item = (EngineHash, Place)> {
        let start = if self.buckets.is_empty() { 0 } else { start % self.buckets.len() };
        let (before, behind) = self.buckets.split_at(start);
        behind.iter().chain(before).flat_map(|bucket| {
            let slots = bucket.keys.iter().zip(bucket.places).enumerate();
            let used = slots.filter(|(slot, _)| bucket.state.used() >> slot & 1 == 1);
            used.map(|(_, (&key, place))| (EngineHash(key), place))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EngineHash, Place)> {
        self.iter_from(0)
    }

    /// Whether every bucket's state is what its keys and those behind it ask for.
    pub(crate) fn audit(&self) -> bool {
        let mut states: Vec<State> = vec![State::default(); self.buckets.len()];
        for (key, _) in self.iter() {
            let home = self.home(key.0);
            let Some((bucket, slot)) = self.find(home, key.0) else { return false };
            states[bucket].fill(slot, bucket != home);
            let mut at = home;
            while at != bucket {
                states[at].0 += State::PASSED;
                at = self.next(home, at);
            }
        }
        self.iter().count() == self.used
            && self.buckets.iter().zip(states).all(|(bucket, state)| {
                bucket.state == state && (!state.was_passed() || state.used() == ALL)
            })
    }

    #[inline]
    fn find(&self, home: usize, key: u64) -> Option<(usize, usize)> {
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            let hits = bucket.hits(key);
            if hits != 0 {
                return Some((at, hits.trailing_zeros() as usize));
            }
            if !bucket.state.was_passed() {
                return None;
            }
            at = self.next(home, at);
        }
    }

    /// Adds a key that is not there. There is always a free slot.
    fn add(&mut self, home: usize, key: u64, place: Place) {
        let mut at = home;
        loop {
            let bucket = &mut self.buckets[at];
            if bucket.state.used() != ALL {
                let slot = bucket.state.used().trailing_ones() as usize;
                (bucket.keys[slot], bucket.places[slot]) = (key, place);
                bucket.state.fill(slot, at != home);
                self.used += 1;
                return;
            }
            bucket.state.0 += State::PASSED;
            at = self.next(home, at);
        }
    }

    /// Fills a slot that became free with a key that had to pass it, and then the
    /// slot of that one, until nobody passed.
    fn refill(&mut self, mut hole: usize, mut slot: usize) {
        while self.buckets[hole].state.was_passed() {
            // Whoever passed is in the other of the pair or behind it.
            let mut at = hole ^ 1;
            let (home, passer) = 'found: loop {
                let mut strangers = self.buckets[at].state.strangers();
                while strangers != 0 {
                    let slot = strangers.trailing_zeros() as usize;
                    let home = self.home(self.buckets[at].keys[slot]);
                    if self.rank(home, hole) < self.rank(home, at) {
                        break 'found (home, slot);
                    }
                    strangers &= strangers - 1;
                }
                at = self.next(hole, at);
            };
            let from = &mut self.buckets[at];
            let (key, place) = (from.keys[passer], from.places[passer]);
            from.state.empty(passer);
            let to = &mut self.buckets[hole];
            (to.keys[slot], to.places[slot]) = (key, place);
            to.state.fill(slot, home != hole);
            self.unpass(home, hole, at);
            (hole, slot) = (at, passer);
        }
    }

    /// Takes back that a key of that home passed the buckets from `start` to before
    /// `end`.
    fn unpass(&mut self, home: usize, start: usize, end: usize) {
        let mut at = start;
        while at != end {
            self.buckets[at].state.0 -= State::PASSED;
            at = self.next(home, at);
        }
    }

    /// Mixes the key and scales it to the number of buckets, which need not be a power
    /// of two.
    #[inline]
    fn home(&self, key: u64) -> usize {
        let mixed = u128::from(key ^ self.secret) * MIXER;
        let mixed = (mixed as u64) ^ ((mixed >> 64) as u64);
        ((u128::from(mixed) * self.buckets.len() as u128) >> 64) as usize
    }

    /// Where a key goes that is not in its home: to the other bucket of the pair, which
    /// memory brings along, and then through the pairs behind it.
    #[inline]
    fn next(&self, home: usize, at: usize) -> usize {
        let next = match at {
            _ if at == home => return home ^ 1,
            _ if at == home ^ 1 => (home | 1) + 1,
            _ => at + 1,
        };
        if next == self.buckets.len() { 0 } else { next }
    }

    /// How many buckets a key of that home visits before this one.
    fn rank(&self, home: usize, at: usize) -> usize {
        let pair = home & !1;
        match at {
            _ if at == home => 0,
            _ if at == home ^ 1 => 1,
            _ if at > pair => at - pair,
            _ => at + self.buckets.len() - pair,
        }
    }

    fn resize(&mut self, buckets: usize) {
        let free = vec![Bucket::default(); buckets].into_boxed_slice();
        let before = std::mem::replace(&mut self.buckets, free);
        self.used = 0;
        for bucket in before {
            for slot in (0..SLOTS).filter(|slot| bucket.state.used() >> slot & 1 == 1) {
                self.add(self.home(bucket.keys[slot]), bucket.keys[slot], bucket.places[slot]);
            }
        }
    }
}
