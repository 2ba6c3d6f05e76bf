//! Pieces that took merging, and what they became.
//!
//! Direct-mapped: a new piece takes its place from an old one, so one-off text costs
//! the entries it hits and no flush is ever needed. Pieces of up to 16 bytes that gave
//! at most 6 tokens; others are merged each time.

use crate::vocab::Key;

const ENTRIES: usize = 4096;
const IDS: usize = 6;

#[derive(Copy, Clone, Debug, Default)]
struct Entry {
    key: Key,
    count: u32,
    ids: [u32; IDS],
}

/// About 230 KB.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    entries: Vec<Entry>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache { entries: vec![Entry::default(); ENTRIES] }
    }
}

impl Cache {
    #[inline(always)]
    fn place(hash: u64) -> usize {
        (hash >> 40) as usize % ENTRIES
    }

    /// Appends the cached ids of this piece, if any.
    #[inline]
    pub(crate) fn get(&self, key: Key, hash: u64, ids: &mut Vec<u32>) -> bool {
        let Some(entry) = self.entries.get(Self::place(hash)) else { return false };
        if entry.key != key {
            return false;
        }
        ids.extend_from_slice(entry.ids.get(..entry.count as usize).unwrap_or_default());
        true
    }

    pub(crate) fn put(&mut self, key: Key, hash: u64, became: &[u32]) {
        if became.len() > IDS {
            return;
        }
        let Some(entry) = self.entries.get_mut(Self::place(hash)) else { return };
        entry.key = key;
        entry.count = became.len() as u32;
        for (to, from) in entry.ids.iter_mut().zip(became) {
            *to = *from;
        }
    }
}
