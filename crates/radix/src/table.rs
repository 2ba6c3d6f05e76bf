//! Engine hash to place: one open-addressing table for each holder and kind of
//! engine hash.
//!
//! Most of the index's memory and most of a write's time are here. A slot is the key
//! and four bytes, and five of them with a counter are one cache line for integer
//! hashes: a search reads one line, mostly, and compares without branching. The
//! counter says how many keys found the bucket full and went on, so that a search
//! knows where to stop. A removal calls one of them back, and so the table is after
//! weeks of churn what a fresh one would be. It grows by a quarter where others
//! double, and is then still six tenths full.
//!
//! Rejected: buckets without calling back (after a few turnovers of the cache a
//! search at the same load reads ten buckets where it read two); single slots with
//! linear probing (moving them back was half the cost of a removal); a general hash
//! map (one more byte a slot, a load of 44 % after each doubling); folding digests to
//! eight bytes (two that fold alike would be one block, and telling them apart costs
//! more than the digests of the few fleets that use them).

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

use crate::run::Place;

/// The place that marks a free slot; [`crate::run`] never gives it out.
pub(crate) const NOWHERE: Place = Place::MAX;

/// With integer hashes: 5 × (8 + 4) + 4 bytes are a cache line.
const SLOTS: usize = 5;

#[derive(Copy, Clone, Debug)]
#[repr(C, align(64))]
struct Bucket<K> {
    keys: [K; SLOTS],
    places: [Place; SLOTS],
    /// Keys in other buckets that would be in this one or before it had there been
    /// room.
    passed: u32,
}

#[derive(Debug)]
pub(crate) struct Table<K> {
    buckets: Box<[Bucket<K>]>,
    used: usize,
    hasher: DefaultHashBuilder,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { buckets: Box::default(), used: 0, hasher: DefaultHashBuilder::default() }
    }
}

impl<K: Copy + Eq + Default> Bucket<K> {
    fn free() -> Self {
        Self { keys: [K::default(); SLOTS], places: [NOWHERE; SLOTS], passed: 0 }
    }

    fn position(&self, key: &K) -> Option<usize> {
        let hits = (0..SLOTS).fold(0_u32, |hits, slot| {
            let hit = (self.keys[slot] == *key) & (self.places[slot] != NOWHERE);
            hits | u32::from(hit) << slot
        });
        (hits != 0).then(|| hits.trailing_zeros() as usize)
    }

    fn vacancy(&self) -> Option<usize> {
        let free = (0..SLOTS)
            .fold(0_u32, |free, slot| free | u32::from(self.places[slot] == NOWHERE) << slot);
        (free != 0).then(|| free.trailing_zeros() as usize)
    }
}

impl<K: Copy + Eq + Hash + Default> Table<K> {
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn get(&self, key: &K) -> Option<Place> {
        let (bucket, slot) = self.find(key)?;
        Some(self.buckets[bucket].places[slot])
    }

    /// Binds `key` to `place`; what it was bound to.
    pub(crate) fn insert(&mut self, key: K, place: Place) -> Option<Place> {
        if (self.used + 1) * 4 > self.buckets.len() * SLOTS * 3 {
            self.resize(self.buckets.len() + self.buckets.len() / 4 + 1);
        }
        let home = self.home(&key);
        if let Some((bucket, slot)) = self.find_from(home, &key) {
            return Some(std::mem::replace(&mut self.buckets[bucket].places[slot], place));
        }
        self.add(home, key, place);
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<Place> {
        if self.buckets.is_empty() {
            return None;
        }
        let home = self.home(key);
        let (bucket, slot) = self.find_from(home, key)?;
        let place = std::mem::replace(&mut self.buckets[bucket].places[slot], NOWHERE);
        self.unpass(home, bucket);
        self.used -= 1;
        if self.used == 0 {
            self.buckets = Box::default();
        } else if self.used * 8 < self.buckets.len() * SLOTS * 3 {
            self.resize(self.used / 3 + 1);
        } else {
            self.refill(bucket, slot);
        }
        Some(place)
    }

    /// Reads the buckets where the search for `key` will begin and, mostly, end. Reads
    /// of many keys in a row overlap in the memory system; the searches after them
    /// then do not wait.
    pub(crate) fn touch(&self, key: &K) -> Place {
        if self.buckets.is_empty() {
            return NOWHERE;
        }
        let home = self.home(key);
        self.buckets[home].passed ^ self.buckets[self.next(home)].passed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, Place)> {
        let slots = self.buckets.iter().flat_map(|bucket| bucket.keys.iter().zip(bucket.places));
        slots.filter(|slot| slot.1 != NOWHERE).map(|(&key, place)| (key, place))
    }

    /// Whether the counters are those that the keys ask for.
    pub(crate) fn audit(&self) -> bool {
        let mut passed = vec![0; self.buckets.len()];
        for (key, _) in self.iter() {
            let Some((bucket, _)) = self.find(&key) else { return false };
            let mut at = self.home(&key);
            while at != bucket {
                passed[at] += 1;
                at = self.next(at);
            }
        }
        self.iter().count() == self.used
            && self.buckets.iter().zip(passed).all(|(bucket, passed)| {
                bucket.passed == passed && (passed == 0 || bucket.vacancy().is_none())
            })
    }

    fn find(&self, key: &K) -> Option<(usize, usize)> {
        if self.buckets.is_empty() { None } else { self.find_from(self.home(key), key) }
    }

    fn find_from(&self, home: usize, key: &K) -> Option<(usize, usize)> {
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            if let Some(slot) = bucket.position(key) {
                return Some((at, slot));
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Adds a key that is not there. There is always a free slot.
    fn add(&mut self, home: usize, key: K, place: Place) {
        let mut at = home;
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.vacancy() {
                (bucket.keys[slot], bucket.places[slot]) = (key, place);
                self.used += 1;
                return;
            }
            bucket.passed += 1;
            at = self.next(at);
        }
    }

    /// Fills a slot that became free with a key that had to pass it, and then the
    /// slot of that one, until nobody passed.
    fn refill(&mut self, mut hole: usize, mut slot: usize) {
        while self.buckets[hole].passed > 0 {
            let mut at = hole;
            let passer = loop {
                at = self.next(at);
                let bucket = &self.buckets[at];
                let passed = |&slot: &usize| {
                    bucket.places[slot] != NOWHERE
                        && self.distance(self.home(&bucket.keys[slot]), at)
                            >= self.distance(hole, at)
                };
                if let Some(slot) = (0..SLOTS).find(passed) {
                    break slot;
                }
            };
            let from = &mut self.buckets[at];
            let (key, place) = (from.keys[passer], from.places[passer]);
            from.places[passer] = NOWHERE;
            let to = &mut self.buckets[hole];
            (to.keys[slot], to.places[slot]) = (key, place);
            self.unpass(hole, at);
            (hole, slot) = (at, passer);
        }
    }

    /// Takes back that a key passed the buckets from `start` to before `end`.
    fn unpass(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at != end {
            self.buckets[at].passed -= 1;
            at = self.next(at);
        }
    }

    /// Scales the hash to the number of buckets, which need not be a power of two.
    fn home(&self, key: &K) -> usize {
        ((u128::from(self.hasher.hash_one(key)) * self.buckets.len() as u128) >> 64) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    /// Steps from one bucket to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.buckets.len() - from }
    }

    fn resize(&mut self, buckets: usize) {
        let free = vec![Bucket::free(); buckets].into_boxed_slice();
        let before = std::mem::replace(&mut self.buckets, free);
        self.used = 0;
        for bucket in before {
            for (key, place) in bucket.keys.into_iter().zip(bucket.places) {
                if place != NOWHERE {
                    self.add(self.home(&key), key, place);
                }
            }
        }
    }
}
