//! Engine hash to place: one open-addressing table for each holder and kind of
//! engine hash.
//!
//! Most of the index's memory and most of a write's time are here. A slot is the key
//! and four bytes, and five of them with a counter are one cache line for integer
//! hashes: a search reads one line, nearly always, and compares without branching.
//! The counter says how many keys found the bucket full and went on to the next, so
//! that a search knows when to stop and a removal leaves neither tombstones nor
//! slots to move. The table grows by a quarter where others double, and is then
//! still two thirds full.
//!
//! Rejected: packed slots with linear probing and moving back on removal (the moving
//! was half the cost of a removal); a general hash map (one more byte a slot, a load
//! of 44 % after each doubling); folding digests to eight bytes (two that fold alike
//! would be one block, and telling them apart costs more than the digests of the few
//! fleets that use them).

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
        let (home, step, slot) = self.find(key)?;
        Some(self.buckets[self.step(home, step)].places[slot])
    }

    /// Binds `key` to `place`; what it was bound to.
    pub(crate) fn insert(&mut self, key: K, place: Place) -> Option<Place> {
        if (self.used + 1) * 5 > self.buckets.len() * SLOTS * 4 {
            self.resize(self.buckets.len() + self.buckets.len() / 4);
        }
        let home = self.home(&key);
        if let Some((step, slot)) = self.find_from(home, &key) {
            let bucket = self.step(home, step);
            return Some(std::mem::replace(&mut self.buckets[bucket].places[slot], place));
        }
        self.add(home, key, place);
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<Place> {
        let (home, step, slot) = self.find(key)?;
        let bucket = self.step(home, step);
        let place = std::mem::replace(&mut self.buckets[bucket].places[slot], NOWHERE);
        for step in 0..step {
            let passed = self.step(home, step);
            self.buckets[passed].passed -= 1;
        }
        self.used -= 1;
        if self.used == 0 {
            self.buckets = Box::default();
        } else if self.used * 3 < self.buckets.len() {
            self.resize(self.used * 3 / 2 / SLOTS);
        }
        Some(place)
    }

    /// Reads the two buckets where the search for `key` will begin. Reads of many
    /// keys in a row overlap in the memory system; the searches after them then do
    /// not wait.
    pub(crate) fn touch(&self, key: &K) -> Place {
        if self.buckets.is_empty() {
            return NOWHERE;
        }
        let home = self.home(key);
        self.buckets[home].passed ^ self.buckets[home ^ 1].passed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, Place)> {
        let slots = self.buckets.iter().flat_map(|bucket| bucket.keys.iter().zip(bucket.places));
        slots.filter(|slot| slot.1 != NOWHERE).map(|(&key, place)| (key, place))
    }

    /// Whether the counters are those that the keys ask for.
    pub(crate) fn audit(&self) -> bool {
        let mut passed = vec![0; self.buckets.len()];
        for (key, _) in self.iter() {
            let Some((home, steps, _)) = self.find(&key) else { return false };
            (0..steps).for_each(|step| passed[self.step(home, step)] += 1);
        }
        self.iter().count() == self.used
            && self.buckets.iter().zip(passed).all(|(bucket, passed)| bucket.passed == passed)
    }

    /// The home of a key, how many steps from there it is, and its slot.
    fn find(&self, key: &K) -> Option<(usize, usize, usize)> {
        if self.buckets.is_empty() {
            return None;
        }
        let home = self.home(key);
        self.find_from(home, key).map(|(step, slot)| (home, step, slot))
    }

    #[inline]
    fn find_from(&self, home: usize, key: &K) -> Option<(usize, usize)> {
        for step in 0..self.buckets.len() {
            let bucket = &self.buckets[self.step(home, step)];
            if let Some(slot) = bucket.position(key) {
                return Some((step, slot));
            }
            if bucket.passed == 0 {
                break;
            }
        }
        None
    }

    /// Adds a key that is not there. There is always a free slot.
    fn add(&mut self, home: usize, key: K, place: Place) {
        for step in 0..self.buckets.len() {
            let at = self.step(home, step);
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.vacancy() {
                (bucket.keys[slot], bucket.places[slot]) = (key, place);
                self.used += 1;
                return;
            }
            bucket.passed += 1;
        }
    }

    /// Scales the hash to the number of buckets, which need not be a power of two.
    fn home(&self, key: &K) -> usize {
        ((u128::from(self.hasher.hash_one(key)) * self.buckets.len() as u128) >> 64) as usize
    }

    /// The way from home: first the other bucket of the pair, which the processor
    /// fetches along with it, then pair by pair.
    fn step(&self, home: usize, step: usize) -> usize {
        let at = (home & !1) + (step & !1);
        let at = if at < self.buckets.len() { at } else { at - self.buckets.len() };
        at | ((home ^ step) & 1)
    }

    /// Makes it at least so many buckets, in pairs.
    fn resize(&mut self, buckets: usize) {
        let buckets = (buckets / 2 + 1) * 2;
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
