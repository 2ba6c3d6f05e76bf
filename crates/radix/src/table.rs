//! Engine hash to place: one open-addressing table for each holder and tier.
//!
//! Most of the index's memory and most of a write's time are here, and the time is
//! waiting for memory. A slot is six bytes: 16 bits of the mixed hash and the number
//! of a name (`names`), where the hash itself stands beside those of its neighbours in the
//! chain. Ten slots with a counter are one cache line, so a search reads one line, nearly
//! always, and an eighth of another to be sure. The counter says how many keys found the
//! bucket full and went on, so that a search knows where to stop. A removal calls one of
//! them back, and so the table is after weeks of churn what a fresh one would be. It grows
//! by a quarter where others double, and is then still more than half full.
//!
//! Work comes in batches of up to [`BATCH`] keys: [`Table::homes`] hashes them and
//! asks memory for all their buckets at once while the batch before is worked on, and
//! [`Table::beyond`] for the second lines of those that need one.
//!
//! Rejected: slots of the whole hash and a place (twelve bytes, five to a line: a third of
//! the searches read a second line); buckets without calling back (after a few turnovers of
//! the cache a search at the same load reads ten buckets where it read two); single slots
//! with linear probing (moving them back was half the cost of a removal); a general hash
//! map (one more byte a slot, a load of 44 % after each doubling); two buckets to
//! choose from (two lines read for each key that is new, and most are); keys of 32
//! bytes for engines that name blocks by digests (see [`crate::EngineHash`]).

use std::hash::BuildHasher;

use crate::EngineHash;
use crate::names::{NameId, Names};
use crate::prefetch::prefetch;
use crate::run::Place;

/// The place that is nobody's; [`crate::run`] never gives it out.
pub(crate) const NOWHERE: Place = Place::MAX;

/// 10 × (2 + 4) + 4 bytes are a cache line.
const SLOTS: usize = 10;
const ALL: u32 = (1 << SLOTS) - 1;

/// Of ten slots so many are full when the table grows.
const FULL: usize = 7;

/// An odd number without pattern.
const MIXER: u128 = 0x9e37_79b9_7f4a_7c15;

/// Keys that are worked on together. A core has not many more reads under way.
pub(crate) const BATCH: usize = 32;

/// Where the search for a key begins, and what it looks for.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Home {
    bucket: u32,
    tag: u16,
}

/// Those of the keys of a batch.
pub(crate) type Homes = [Home; BATCH];

/// Tags to a word.
const LANES: usize = 4;
const LOWEST: u64 = 0x0001_0001_0001_0001;
const HIGHEST: u64 = LOWEST << 15;

#[derive(Copy, Clone, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// The tags, and the state where the last two would be.
    words: [u64; 3],
    names: [NameId; SLOTS],
}

/// What is in a slot, as two bits of the state.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Guest {
    /// A key whose home this bucket is.
    None = 0b01,
    /// One of the other bucket of the pair, which was full.
    Neighbour = 0b11,
    /// One of a pair before this one.
    Stranger = 0b10,
}

impl Guest {
    fn of(home: usize, at: usize) -> Self {
        match at {
            _ if at == home => Self::None,
            _ if at == home ^ 1 => Self::Neighbour,
            _ => Self::Stranger,
        }
    }
}

/// From the lowest bit: what is in each slot (the lower bits of all, then the higher), and
/// how many keys in buckets behind it passed it, which would be here or before had there
/// been room.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
struct State(u32);

impl State {
    const PASSED: u32 = 1 << (2 * SLOTS);
    /// As many as can be counted; more than that stay counted until the table is made anew.
    const MOST: u32 = u32::MAX / Self::PASSED;

    fn used(self) -> u32 {
        (self.0 | self.0 >> SLOTS) & ALL
    }

    fn neighbours(self) -> u32 {
        self.0 & self.0 >> SLOTS & ALL
    }

    fn strangers(self) -> u32 {
        !self.0 & self.0 >> SLOTS & ALL
    }

    fn passed(self) -> u32 {
        self.0 / Self::PASSED
    }

    fn was_passed(self) -> bool {
        self.0 >= Self::PASSED
    }

    fn pass(self) -> Self {
        if self.passed() == Self::MOST { self } else { Self(self.0 + Self::PASSED) }
    }

    fn unpass(self) -> Self {
        let counted = (1..Self::MOST).contains(&self.passed());
        if counted { Self(self.0 - Self::PASSED) } else { self }
    }

    fn fill(self, slot: usize, guest: Guest) -> Self {
        let bits = guest as u32;
        Self(self.0 | (bits & 1) << slot | (bits >> 1) << (slot + SLOTS))
    }

    fn empty(self, slot: usize) -> Self {
        Self(self.0 & !(1 << slot | 1 << (slot + SLOTS)))
    }
}

impl Bucket {
    fn state(&self) -> State {
        State((self.words[2] >> 32) as u32)
    }

    fn set_state(&mut self, state: State) {
        self.words[2] = self.words[2] & u64::from(u32::MAX) | u64::from(state.0) << 32;
    }

    fn set(&mut self, slot: usize, tag: u16, name: NameId, guest: Guest) {
        let shift = slot % LANES * 16;
        let word = &mut self.words[slot / LANES];
        *word = *word & !(0xffff << shift) | u64::from(tag) << shift;
        self.names[slot] = name;
        self.set_state(self.state().fill(slot, guest));
    }

    fn tag(&self, slot: usize) -> u16 {
        (self.words[slot / LANES] >> (slot % LANES * 16)) as u16
    }

    /// The slots that hold keys of this tag.
    #[inline]
    fn hits(&self, tag: u16) -> u32 {
        let sought = u64::from(tag) * LOWEST;
        let hits = self.words.iter().rev().fold(0, |hits, word| {
            // The highest bit of each tag that is equal: neither it nor what a carry from
            // below would bring is there.
            let differs = word ^ sought;
            let equal = !(((differs & !HIGHEST) + !HIGHEST) | differs) & HIGHEST;
            // One bit of each sixteen to four in a row.
            hits << LANES | (equal >> 15).wrapping_mul(0x0001_0002_0004_0008) >> 48 & 0xf
        });
        hits as u32 & self.state().used()
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    buckets: Box<[Bucket]>,
    names: Names,
    used: usize,
    /// So that nobody can choose keys that meet in one bucket.
    secret: u64,
}

impl Default for Table {
    fn default() -> Self {
        let secret = hashbrown::DefaultHashBuilder::default().hash_one(0_u64);
        Self { buckets: Box::default(), names: Names::default(), used: 0, secret }
    }
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn heap(&self) -> usize {
        size_of_val(&*self.buckets) + self.names.heap()
    }

    /// Heap that a reservation would take while it lasts, beyond what there is.
    pub(crate) fn growth(&self, more: usize) -> usize {
        let buckets = self.grown(more).map_or(0, |buckets| buckets - self.buckets.len());
        buckets * size_of::<Bucket>() + self.names.growth(more)
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

    /// Gives back what removals left, if that is much and what must be beside it for a
    /// moment `fits`.
    pub(crate) fn settle(&mut self, fits: impl FnOnce(usize) -> bool) {
        if self.used == 0 {
            if !self.buckets.is_empty() {
                (self.buckets, self.names) = Default::default();
            }
            return;
        }
        let is_sparse = self.names.is_sparse();
        let is_large = self.used * 20 < self.buckets.len() * SLOTS * FULL;
        if !is_sparse && !is_large {
            return;
        }
        if is_sparse && fits(self.names.compacting()) {
            self.names.compact();
        } else if !is_large {
            return;
        }
        // Some five sevenths of what it may be, far from both limits.
        let buckets = (self.used * 2 / SLOTS + 1).next_multiple_of(2);
        self.resize(if is_large { buckets } else { self.buckets.len() });
    }

    /// Where the searches for these keys begin. Asks memory for those buckets, so that the
    /// searches do not wait.
    pub(crate) fn homes(&self, keys: impl Iterator<Item = EngineHash>) -> Homes {
        let mut homes = [Home::default(); BATCH];
        if self.buckets.is_empty() {
            return homes;
        }
        for (home, key) in homes.iter_mut().zip(keys) {
            *home = self.home(key.0);
            prefetch(&self.buckets[home.bucket as usize]);
        }
        homes
    }

    /// Asks memory for what the searches from these homes will go on to, where one line is
    /// not enough.
    pub(crate) fn beyond(&self, homes: &[Home]) {
        for home in homes {
            let at = home.bucket as usize;
            let Some(bucket) = self.buckets.get(at) else { return };
            let state = bucket.state();
            let goes_on = state.was_passed() | (state.used() == ALL);
            prefetch(&self.buckets[at ^ usize::from(goes_on)]);
        }
    }

    pub(crate) fn get(&self, key: EngineHash) -> Option<Place> {
        let (bucket, slot) = self.find(self.home(key.0), key.0)?;
        Some(self.names.place(self.buckets[bucket].names[slot]))
    }

    /// What is inserted next follows that key in its chain.
    pub(crate) fn follow(&mut self, key: EngineHash) {
        if let Some((bucket, slot)) = self.find(self.home(key.0), key.0) {
            self.names.follow(self.buckets[bucket].names[slot]);
        }
    }

    /// Binds a key to a place; what it was bound to. There must be room for it.
    #[inline]
    pub(crate) fn insert(&mut self, home: Home, key: EngineHash, place: Place) -> Option<Place> {
        let bucket = &mut self.buckets[home.bucket as usize];
        let state = bucket.state();
        if bucket.hits(home.tag) == 0 && !state.was_passed() && state.used() != ALL {
            let slot = state.used().trailing_ones() as usize;
            bucket.set(slot, home.tag, self.names.add(key, place), Guest::None);
            self.used += 1;
            return None;
        }
        self.insert_slowly(home, key, place)
    }

    #[inline(never)]
    fn insert_slowly(&mut self, home: Home, key: EngineHash, place: Place) -> Option<Place> {
        if let Some((bucket, slot)) = self.find(home, key.0) {
            let name = self.buckets[bucket].names[slot];
            let before = self.names.place(name);
            if before == place {
                self.names.follow(name);
            } else {
                self.names.remove(name);
                self.buckets[bucket].names[slot] = self.names.add(key, place);
            }
            return Some(before);
        }
        let name = self.names.add(key, place);
        self.add(home, name);
        self.used += 1;
        None
    }

    /// Unbinds a key; [`Self::settle`] is to follow.
    #[inline]
    pub(crate) fn remove(&mut self, home: Home, key: EngineHash) -> Option<Place> {
        let (at, slot) = self.find(home, key.0)?;
        let bucket = &mut self.buckets[at];
        let state = bucket.state();
        bucket.set_state(state.empty(slot));
        let name = bucket.names[slot];
        let place = self.names.place(name);
        self.names.remove(name);
        self.used -= 1;
        let home = home.bucket as usize;
        if at != home {
            self.unpass(home, home, at);
        }
        if state.was_passed() {
            self.refill(at, slot);
        }
        Some(place)
    }

    /// The bindings; those of neighbouring places together.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EngineHash, Place)> {
        self.names.iter().map(|name| self.binding(name))
    }

    /// The bindings, in no order, from that bucket on and around.
    pub(crate) fn iter_from(&self, start: usize) -> impl Iterator<Item = (EngineHash, Place)> {
        let start = if self.buckets.is_empty() { 0 } else { start % self.buckets.len() };
        let (before, behind) = self.buckets.split_at(start);
        behind.iter().chain(before).flat_map(|bucket| {
            let used = bucket.state().used();
            let slots = (0..SLOTS).filter(move |slot| used >> slot & 1 == 1);
            slots.map(|slot| self.binding(bucket.names[slot]))
        })
    }

    fn binding(&self, name: NameId) -> (EngineHash, Place) {
        (EngineHash(self.names.key(name)), self.names.place(name))
    }

    /// Whether every bucket's state is what its keys and those behind it ask for.
    pub(crate) fn audit(&self) -> bool {
        let mut states: Vec<State> = vec![State::default(); self.buckets.len()];
        for name in self.names.iter() {
            let home = self.home(self.names.key(name));
            let found = self.find(home, self.names.key(name));
            let Some((bucket, slot)) = found else { return false };
            if self.buckets[bucket].names[slot] != name {
                return false;
            }
            let home = home.bucket as usize;
            states[bucket] = states[bucket].fill(slot, Guest::of(home, bucket));
            let mut at = home;
            while at != bucket {
                states[at] = states[at].pass();
                at = self.next(home, at);
            }
        }
        self.names.iter().count() == self.used
            && self.names.audit()
            && self.buckets.iter().zip(states).all(|(bucket, state)| {
                bucket.state() == state && (!state.was_passed() || state.used() == ALL)
            })
    }

    #[inline]
    fn find(&self, home: Home, key: u64) -> Option<(usize, usize)> {
        let start = home.bucket as usize;
        let mut at = start;
        loop {
            // None where there are no buckets at all.
            let bucket = self.buckets.get(at)?;
            let mut hits = bucket.hits(home.tag);
            while hits != 0 {
                let slot = hits.trailing_zeros() as usize;
                if self.names.key(bucket.names[slot]) == key {
                    return Some((at, slot));
                }
                hits &= hits - 1;
            }
            if !bucket.state().was_passed() {
                return None;
            }
            at = self.next(start, at);
        }
    }

    /// Adds a key that is not there. There is always a free slot.
    fn add(&mut self, home: Home, name: NameId) {
        let start = home.bucket as usize;
        let mut at = start;
        loop {
            let bucket = &mut self.buckets[at];
            let state = bucket.state();
            if state.used() != ALL {
                let slot = state.used().trailing_ones() as usize;
                bucket.set(slot, home.tag, name, Guest::of(start, at));
                return;
            }
            bucket.set_state(state.pass());
            at = self.next(start, at);
        }
    }

    /// Fills a slot that became free with a key that had to pass it, and then the
    /// slot of that one, until nobody passed.
    fn refill(&mut self, mut hole: usize, mut slot: usize) {
        while self.buckets[hole].state().was_passed() {
            let Some((home, at, passer)) = self.passer(hole) else { return };
            let from = &mut self.buckets[at];
            let (tag, name) = (from.tag(passer), from.names[passer]);
            from.set_state(from.state().empty(passer));
            self.buckets[hole].set(slot, tag, name, Guest::of(home, hole));
            self.unpass(home, hole, at);
            (hole, slot) = (at, passer);
        }
    }

    /// Somebody who passed a bucket, the nearest: its home, its bucket and its slot.
    ///
    /// None only where more passed than can be counted.
    fn passer(&self, hole: usize) -> Option<(usize, usize, usize)> {
        // Whoever passed is in the other of the pair or behind it.
        let mut at = hole ^ 1;
        let neighbours = self.buckets[at].state().neighbours();
        if neighbours != 0 {
            return Some((hole, at, neighbours.trailing_zeros() as usize));
        }
        for _ in 0..self.buckets.len() {
            let mut strangers = self.buckets[at].state().strangers();
            while strangers != 0 {
                let slot = strangers.trailing_zeros() as usize;
                let key = self.names.key(self.buckets[at].names[slot]);
                let home = self.home(key).bucket as usize;
                if self.rank(home, hole) < self.rank(home, at) {
                    return Some((home, at, slot));
                }
                strangers &= strangers - 1;
            }
            at = self.next(hole, at);
        }
        None
    }

    /// Takes back that a key of that home passed the buckets from `start` to before
    /// `end`.
    fn unpass(&mut self, home: usize, start: usize, end: usize) {
        let mut at = start;
        while at != end {
            let bucket = &mut self.buckets[at];
            bucket.set_state(bucket.state().unpass());
            at = self.next(home, at);
        }
    }

    /// Mixes the key and scales it to the number of buckets, which need not be a power
    /// of two; the tag is of the bits that this regards least.
    #[inline]
    fn home(&self, key: u64) -> Home {
        let mixed = u128::from(key ^ self.secret) * MIXER;
        let mixed = (mixed as u64) ^ ((mixed >> 64) as u64);
        let bucket = (u128::from(mixed) * self.buckets.len() as u128) >> 64;
        Home { bucket: bucket as u32, tag: mixed as u16 }
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

    /// Finds every name a slot anew. What there was is given back first: the names are
    /// elsewhere.
    fn resize(&mut self, buckets: usize) {
        self.buckets = Box::default();
        self.buckets = vec![Bucket::default(); buckets].into_boxed_slice();
        let names = std::mem::take(&mut self.names);
        let mut all = names.iter();
        loop {
            let batch: [Option<NameId>; BATCH] = std::array::from_fn(|_| all.next());
            let keys = batch.iter().flatten().map(|&name| EngineHash(names.key(name)));
            let homes = self.homes(keys);
            batch.iter().flatten().zip(homes).for_each(|(&name, home)| self.add(home, name));
            if batch[BATCH - 1].is_none() {
                break;
            }
        }
        drop(all);
        self.names = names;
    }
}
