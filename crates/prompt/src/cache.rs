//! What earlier prompts of a VM leave to later ones: ids of text, hashes of prefixes.
//!
//! Three things are kept. Of a *prefix*, that is a run of segments from the prompt's start:
//! the block hashes that its last few segments added, and the tokens of the blocks that
//! they left unfinished. So an unchanged prefix costs one hash over its text and a look-up
//! for each message, and neither are ids copied nor blocks hashed. It takes about a
//! seventh of the text's size, and is kept when first seen, because the second turn of a
//! conversation is its first use. Of a *segment*, a stretch of text between special
//! tokens: its ids, for text that comes again behind another prefix. They take as much as
//! the text, so that they are kept from the second time on that they had to be made. Of a
//! *message* with all before it: what followed, and where the rendering may be gone on
//! from (see [`crate::trail`] and `crate::job`).
//!
//! Keys are 128-bit XXH3 hashes of all that the result depends on: the model (each loaded
//! one has a number of its own), the text, the segments' borders; for prefixes the block
//! sizes, the seed and the ids before the text too. What a template observes (tools, the
//! date, its arguments) is in the text that it wrote. Among 2^20 entries, two are equal by
//! accident with a chance of 2^-88. XXH3 can be attacked by whoever knows its seed, so
//! that one is drawn anew for each cache; a collision would cost one request its warm
//! worker, it shows nobody anything. Rejected: keeping texts to compare, seven times the
//! memory; a cryptographic hash, twenty times the time.

mod store;

use std::hash::{BuildHasher, RandomState};
use store::{Key, Store};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Prefixes and segments that earlier prompts had. One per VM, shared by all of its
/// models.
#[derive(Debug)]
pub struct Cache {
    budget: usize,
    seed: u64,
    store: Store,
    /// Segments whose ids were made lately, by a part of their hash.
    seen: Vec<u32>,
    hits: u64,
    misses: u64,
    pub(crate) resumed: u64,
}

/// What a [`Cache`] holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes that it may take at most.
    pub budget: usize,
    /// Bytes that it takes, its own tables included; never above the budget.
    pub bytes: usize,
    /// Entries in it.
    pub entries: usize,
    /// Look-ups that found something, since it was made.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Renderings that went on from where an earlier turn was.
    pub resumed: u64,
}

/// Of the budget, one word in so many bytes remembers segments seen once.
const BYTES_PER_SEEN: usize = 1024;

impl Cache {
    /// A cache of at most `bytes`, everything counted; 0 turns it off.
    pub fn new(bytes: usize) -> Cache {
        let seen = vec![0; bytes / BYTES_PER_SEEN];
        Cache {
            budget: bytes,
            seed: RandomState::new().hash_one(0),
            store: Store::new(bytes - size_of_val(&*seen)),
            seen,
            hits: 0,
            misses: 0,
            resumed: 0,
        }
    }

    /// What it holds and did.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            budget: self.budget,
            bytes: self.store.bytes() + size_of_val(&*self.seen),
            entries: self.store.entries,
            hits: self.hits,
            misses: self.misses,
            evicted: self.store.evicted,
            resumed: self.resumed,
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.store.is_off()
    }

    /// The name of `bytes`; `kind` keeps what is different apart.
    pub(crate) fn name(&self, kind: u64, bytes: &[u8]) -> Name {
        Name(xxh3_128_with_seed(bytes, self.seed ^ kind))
    }

    /// What was kept under `name`.
    pub(crate) fn get(&mut self, name: Name) -> Option<&[u32]> {
        let found = self.store.get(name.key());
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Keeps `words` under `name`.
    pub(crate) fn put(&mut self, name: Name, words: &[u32]) {
        self.store.put(name.key(), words);
    }

    /// Keeps `words` under `name`, instead of what is there.
    pub(crate) fn replace(&mut self, name: Name, words: &[u32]) {
        self.store.replace(name.key(), words);
    }

    /// Whether `name` was seen lately; it is from now on.
    pub(crate) fn was_seen(&mut self, name: Name) -> bool {
        let (high, low) = name.key();
        let Some(place) = low.checked_rem(self.seen.len() as u64) else { return false };
        let Some(seen) = self.seen.get_mut(place as usize) else { return false };
        // Never 0, which is what an empty place holds.
        let mark = (high >> 32) as u32 | 1;
        std::mem::replace(seen, mark) == mark
    }

    /// The most words worth keeping under one name.
    pub(crate) fn most_words(&self) -> usize {
        self.store.most_words()
    }
}

/// A hash that names what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name(u128);

impl Name {
    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub(crate) fn words(self) -> [u32; 4] {
        let bytes = self.bytes();
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        words
    }

    pub(crate) fn of_words(words: [u32; 4]) -> Name {
        Name(words.iter().rev().fold(0, |name, word| name << 32 | u128::from(*word)))
    }

    fn key(self) -> Key {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}
