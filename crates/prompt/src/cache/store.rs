//! Entries within a byte budget, by use: a segmented LRU.
//!
//! An entry begins on probation and is protected when it is used again, so that text
//! that comes once passes through the first list and leaves the second alone. All of it
//! is O(1), and all memory is counted: the tables are made at the start, for as many
//! entries as the budget can hold of usual ones, and each entry's words are counted with
//! what an allocator adds.

/// Of the budget, a table's share is what so many bytes for each entry make it.
const BYTES_PER_ENTRY: usize = 768;
/// What an allocation costs beyond its size.
const ALLOCATION: usize = 16;
const NONE: u32 = u32::MAX;

/// A key that is a 128-bit hash.
pub(super) type Key = (u64, u64);

#[derive(Debug)]
struct Slot {
    key: Key,
    words: Box<[u32]>,
    /// The next slot of the same bucket, or of the free ones.
    chain: u32,
    newer: u32,
    older: u32,
    protected: bool,
}

/// The ends of a list of slots by use, and the bytes of their words.
#[derive(Clone, Copy, Debug)]
struct Ends {
    newest: u32,
    oldest: u32,
    bytes: usize,
}

const EMPTY: Ends = Ends { newest: NONE, oldest: NONE, bytes: 0 };

#[derive(Debug)]
pub(super) struct Store {
    /// Bytes for words.
    room: usize,
    tables: usize,
    slots: Vec<Slot>,
    free: u32,
    buckets: Vec<u32>,
    probation: Ends,
    protected: Ends,
    pub(super) entries: usize,
    pub(super) evicted: u64,
}

impl Store {
    pub(super) fn new(budget: usize) -> Store {
        let most = (budget / BYTES_PER_ENTRY).min(NONE as usize - 1);
        let tables = most * (size_of::<Slot>() + size_of::<u32>());
        Store {
            room: budget.saturating_sub(tables),
            tables,
            slots: Vec::with_capacity(most),
            free: NONE,
            buckets: vec![NONE; most],
            probation: EMPTY,
            protected: EMPTY,
            entries: 0,
            evicted: 0,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Bytes taken, the tables included.
    pub(super) fn bytes(&self) -> usize {
        self.tables + self.probation.bytes + self.protected.bytes
    }

    /// The most words that an entry may have: a large one must not empty the cache.
    pub(super) fn most_words(&self) -> usize {
        self.room / 32
    }

    /// The words of `key`, which counts as a use of it.
    pub(super) fn get(&mut self, key: Key) -> Option<&[u32]> {
        let at = self.find(key)?;
        self.unlink(at);
        self.link(at, true);
        // What is used least of the protected ones has to prove itself anew.
        while self.protected.bytes > self.room / 4 * 3 {
            let oldest = self.protected.oldest;
            self.unlink(oldest);
            self.link(oldest, false);
        }
        self.slots.get(at as usize).map(|slot| &*slot.words)
    }

    /// Adds an entry, at the cost of others; one of this key stays as it is.
    pub(super) fn put(&mut self, key: Key, words: &[u32]) {
        if words.len() > self.most_words() || self.find(key).is_some() {
            return;
        }
        while self.probation.bytes + self.protected.bytes + cost(words) > self.room
            || (self.free == NONE && self.slots.len() == self.slots.capacity())
        {
            if !self.evict() {
                return;
            }
        }
        let Some(bucket) = bucket(&mut self.buckets, key) else { return };
        let slot = Slot {
            key,
            words: words.into(),
            chain: *bucket,
            newer: NONE,
            older: NONE,
            protected: false,
        };
        let at = self.free;
        if let Some(free) = self.slots.get_mut(at as usize) {
            self.free = free.chain;
            *free = slot;
            *bucket = at;
        } else {
            *bucket = self.slots.len() as u32;
            self.slots.push(slot);
        }
        let at = *bucket;
        self.entries += 1;
        self.link(at, false);
    }

    /// Adds an entry, or changes the words of the one of this key.
    pub(super) fn replace(&mut self, key: Key, words: &[u32]) {
        let Some(at) = self.find(key) else { return self.put(key, words) };
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        let (old, protected) = (cost(&slot.words), slot.protected);
        if words.len() > self.room / 32 {
            return;
        }
        slot.words = words.into();
        let new = cost(&slot.words);
        let ends = if protected { &mut self.protected } else { &mut self.probation };
        ends.bytes = ends.bytes - old + new;
        while self.probation.bytes + self.protected.bytes > self.room && self.evict() {}
    }

    fn find(&self, key: Key) -> Option<u32> {
        let mut at = *self.buckets.get(place(&self.buckets, key)?)?;
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.key == key {
                return Some(at);
            }
            at = slot.chain;
        }
        None
    }

    fn evict(&mut self) -> bool {
        let oldest = match self.probation.oldest {
            NONE => self.protected.oldest,
            oldest => oldest,
        };
        self.unlink(oldest);
        let Some(slot) = self.slots.get_mut(oldest as usize) else { return false };
        slot.words = Box::default();
        let (key, next) = (slot.key, std::mem::replace(&mut slot.chain, self.free));
        self.free = oldest;
        let Some(head) = bucket(&mut self.buckets, key) else { return false };
        if *head == oldest {
            *head = next;
        } else {
            let mut at = *head;
            while let Some(slot) = self.slots.get_mut(at as usize) {
                at = slot.chain;
                if at == oldest {
                    slot.chain = next;
                    break;
                }
            }
        }
        self.entries -= 1;
        self.evicted += 1;
        true
    }

    fn link(&mut self, at: u32, protected: bool) {
        let ends = if protected { &mut self.protected } else { &mut self.probation };
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        slot.protected = protected;
        (slot.newer, slot.older) = (NONE, ends.newest);
        ends.bytes += cost(&slot.words);
        let next = std::mem::replace(&mut ends.newest, at);
        match self.slots.get_mut(next as usize) {
            Some(next) => next.newer = at,
            None => ends.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slots.get(at as usize) else { return };
        let (newer, older) = (slot.newer, slot.older);
        let ends = if slot.protected { &mut self.protected } else { &mut self.probation };
        ends.bytes -= cost(&slot.words);
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => ends.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => ends.oldest = newer,
        }
    }
}

fn cost(words: &[u32]) -> usize {
    size_of_val(words) + ALLOCATION
}

fn place(buckets: &[u32], key: Key) -> Option<usize> {
    usize::try_from(key.0.checked_rem(buckets.len() as u64)?).ok()
}

fn bucket(buckets: &mut [u32], key: Key) -> Option<&mut u32> {
    let place = place(buckets, key)?;
    buckets.get_mut(place)
}

#[cfg(test)]
mod tests;
