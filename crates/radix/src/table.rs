//! Engine hash to place: one open-addressing table of packed slots for each holder
//! and kind of engine hash.
//!
//! Most of the index's memory is here, so a slot is the key and four bytes, twelve
//! in all for integer hashes, without padding or control bytes, and the table
//! grows by a quarter where others double: it is never less than half full once it
//! has outgrown its first slots. Whole keys are kept. Folding digests to eight
//! bytes was rejected: two digests that fold alike would be one block, and what
//! tells them apart would cost more than the digests of the few fleets that use
//! them.
//!
//! Probing is linear and a removal moves the slots behind it back, so a table that
//! churns for weeks has no tombstones to clean up.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

use crate::run::Place;

/// The place that marks a free slot; [`crate::run`] never gives it out.
pub(crate) const NOWHERE: Place = Place::MAX;

const FIRST_CAPACITY: usize = 8;

#[derive(Copy, Clone, Debug)]
#[repr(C, packed(4))]
struct Slot<K: Copy> {
    key: K,
    place: Place,
}

#[derive(Debug)]
pub(crate) struct Table<K: Copy> {
    slots: Box<[Slot<K>]>,
    used: usize,
    hasher: DefaultHashBuilder,
}

impl<K: Copy> Default for Table<K> {
    fn default() -> Self {
        Self { slots: Box::default(), used: 0, hasher: DefaultHashBuilder::default() }
    }
}

impl<K: Copy + Eq + Hash + Default> Table<K> {
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn get(&self, key: &K) -> Option<Place> {
        if self.used == 0 {
            return None;
        }
        let place = self.slots[self.find(key)].place;
        (place != NOWHERE).then_some(place)
    }

    /// Binds `key` to `place`; what it was bound to.
    pub(crate) fn insert(&mut self, key: K, place: Place) -> Option<Place> {
        if (self.used + 1) * 5 > self.slots.len() * 4 {
            self.resize((self.slots.len() + self.slots.len() / 4).max(FIRST_CAPACITY));
        }
        let at = self.find(&key);
        let before = std::mem::replace(&mut self.slots[at], Slot { key, place }).place;
        if before == NOWHERE {
            self.used += 1;
            return None;
        }
        Some(before)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<Place> {
        if self.used == 0 {
            return None;
        }
        let mut hole = self.find(key);
        let place = self.slots[hole].place;
        if place == NOWHERE {
            return None;
        }
        let capacity = self.slots.len();
        let mut next = hole;
        loop {
            next = if next + 1 == capacity { 0 } else { next + 1 };
            let slot = self.slots[next];
            if slot.place == NOWHERE {
                break;
            }
            // A slot moves back into the hole unless its home lies behind the hole.
            let home = self.home(&{ slot.key }, capacity);
            let from_home = if next >= home { next - home } else { next + capacity - home };
            let from_hole = if next >= hole { next - hole } else { next + capacity - hole };
            if from_home >= from_hole {
                self.slots[hole] = slot;
                hole = next;
            }
        }
        self.slots[hole].place = NOWHERE;
        self.used -= 1;
        if self.used == 0 {
            self.slots = Box::default();
        } else if capacity > FIRST_CAPACITY && self.used * 4 < capacity {
            self.resize((self.used + self.used / 2).max(FIRST_CAPACITY));
        }
        Some(place)
    }

    /// Reads the slot where the search for `key` will begin. Reads of many keys in a
    /// row overlap in the memory system; the searches after them then do not wait.
    pub(crate) fn touch(&self, key: &K) -> Place {
        match self.slots.len() {
            0 => NOWHERE,
            capacity => self.slots[self.home(key, capacity)].place,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, Place)> {
        self.slots.iter().filter(|slot| slot.place != NOWHERE).map(|slot| (slot.key, slot.place))
    }

    /// The slot of `key`, or the free one where it would go. There is always a free
    /// one.
    fn find(&self, key: &K) -> usize {
        let mut at = self.home(key, self.slots.len());
        loop {
            let slot = self.slots[at];
            if slot.place == NOWHERE || { slot.key } == *key {
                return at;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    /// Scales the hash to the capacity, which need not be a power of two.
    fn home(&self, key: &K, capacity: usize) -> usize {
        ((u128::from(self.hasher.hash_one(key)) * capacity as u128) >> 64) as usize
    }

    fn resize(&mut self, capacity: usize) {
        let free = Slot { key: K::default(), place: NOWHERE };
        let before = std::mem::replace(&mut self.slots, vec![free; capacity].into_boxed_slice());
        for slot in before {
            if slot.place != NOWHERE {
                let at = self.find(&{ slot.key });
                self.slots[at] = slot;
            }
        }
    }
}
