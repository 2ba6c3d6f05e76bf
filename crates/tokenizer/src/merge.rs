//! Merging: the lowest rank first, the leftmost of equals first.
//!
//! A merge's slot is one word: left id, right id and rank in 21 bits each; what the
//! pair becomes is looked up by rank, by winners only. Of a vocabulary's merges the
//! table has those that ever fire. That is exact: whenever a token is made inside a
//! text, no merge has crossed its borders before, so within them everything happened
//! as when its own text is encoded alone, in the same order (ranks, then positions).
//! So the merge that makes a token is the last one of its own encoding, and every
//! other merge to it never fires anywhere. (Llama 3: 280,147 → 127,156.)

use crate::vocab::home;

const BITS: u32 = 21;
const MASK: u64 = (1 << BITS) - 1;
const PAIR: u64 = (1 << (2 * BITS)) - 1;
/// A slot without a merge.
pub(crate) const EMPTY_SLOT: u64 = u64::MAX;
/// No merge: larger than every rank.
pub(crate) const NONE: u32 = u32::MAX;

/// Symbols that [`Window`] holds.
pub(crate) const WINDOW: usize = 64;
const WINDOW_MASK: usize = WINDOW - 1;
const WINDOW_BITS: u32 = 6;

pub(crate) fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) | u64::from(right) << BITS
}

#[cfg(feature = "compile")]
pub(crate) fn slot(left: u32, right: u32, rank: u32) -> u64 {
    pair(left, right) | u64::from(rank) << (2 * BITS)
}

#[inline(always)]
pub(crate) fn hash(pair: u64) -> u64 {
    let mixed = pair.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed >> 32
}

#[derive(Copy, Clone)]
pub(crate) struct Merges<'t> {
    slots: &'t [[u8; 8]],
    merged: &'t [[u8; 4]],
}

impl<'t> Merges<'t> {
    pub(crate) fn new(slots: &'t [u8], merged: &'t [u8]) -> Self {
        Merges { slots: slots.as_chunks().0, merged: merged.as_chunks().0 }
    }

    /// The rank of merging `left` and `right`, or [`NONE`].
    #[inline(always)]
    pub(crate) fn rank(&self, left: u32, right: u32) -> u32 {
        let wanted = pair(left, right);
        let mut at = home(hash(wanted), self.slots.len());
        for _ in 0..self.slots.len() {
            let Some(bytes) = self.slots.get(at) else { return NONE };
            let slot = u64::from_le_bytes(*bytes);
            if slot & PAIR == wanted {
                return (slot >> (2 * BITS) & MASK) as u32;
            }
            if slot == EMPTY_SLOT {
                return NONE;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        NONE
    }

    /// What a pair of this rank becomes.
    #[inline(always)]
    pub(crate) fn merged(&self, rank: u32) -> u32 {
        self.merged.get(rank as usize).map_or(0, |id| u32::from_le_bytes(*id))
    }
}

/// Up to 64 symbols being merged: arrays of fixed size, so that masked indexes need no
/// checks, and the next merge is the minimum of a few words, which vectorises.
///
/// Rejected for short pieces: a heap (allocation and pointer chasing beat a scan of so
/// few words only beyond some hundred symbols).
#[derive(Clone, Debug)]
pub(crate) struct Window {
    symbols: [u32; WINDOW],
    /// Rank and position of the pair that starts at each symbol; [`NONE`] without one.
    pairs: [u32; WINDOW],
    next: [u8; WINDOW],
    previous: [u8; WINDOW],
    len: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            symbols: [0; WINDOW],
            pairs: [NONE; WINDOW],
            next: [0; WINDOW],
            previous: [0; WINDOW],
            len: 0,
        }
    }
}

impl Window {
    /// Takes up to 64 symbols; more are left out.
    #[inline]
    pub(crate) fn fill(&mut self, symbols: impl Iterator<Item = u32>) {
        self.len = 0;
        for (to, from) in self.symbols.iter_mut().zip(symbols) {
            *to = from;
            self.len += 1;
        }
    }

    #[inline(always)]
    fn packed(merges: &Merges<'_>, left: u32, right: u32, at: usize) -> u32 {
        let rank = merges.rank(left, right);
        if rank == NONE { NONE } else { rank << WINDOW_BITS | at as u32 }
    }

    /// Merges until no pair is left, then gives each token and its first symbol's place.
    #[allow(clippy::indexing_slicing, reason = "every index is masked to the arrays' length")]
    pub(crate) fn merge(&mut self, merges: &Merges<'_>, mut token: impl FnMut(u32, usize)) {
        let len = self.len.min(WINDOW);
        if len == 0 {
            return;
        }
        let (symbols, pairs) = (&mut self.symbols, &mut self.pairs);
        let (next, previous) = (&mut self.next, &mut self.previous);
        let mut left = symbols[0];
        for at in 0..len - 1 {
            let right = symbols[(at + 1) & WINDOW_MASK];
            pairs[at] = Self::packed(merges, left, right, at);
            next[at] = at as u8 + 1;
            previous[at] = at.wrapping_sub(1) as u8;
            left = right;
        }
        pairs[len - 1] = NONE;
        next[len - 1] = WINDOW as u8;
        previous[len - 1] = len.wrapping_sub(2) as u8;
        for _ in 0..len {
            let best = pairs[..len].iter().fold(NONE, |best, pair| best.min(*pair));
            if best == NONE {
                break;
            }
            let at = best as usize & WINDOW_MASK;
            let dead = usize::from(next[at]) & WINDOW_MASK;
            let merged = merges.merged(best >> WINDOW_BITS);
            symbols[at] = merged;
            pairs[dead] = NONE;
            let after = next[dead];
            next[at] = after;
            pairs[at] = NONE;
            if usize::from(after) < len {
                previous[usize::from(after) & WINDOW_MASK] = at as u8;
                let right = symbols[usize::from(after) & WINDOW_MASK];
                pairs[at] = Self::packed(merges, merged, right, at);
            }
            let before = usize::from(previous[at]);
            if before < len {
                pairs[before & WINDOW_MASK] =
                    Self::packed(merges, symbols[before & WINDOW_MASK], merged, before);
            }
        }
        let mut at = 0;
        for _ in 0..len {
            token(symbols[at & WINDOW_MASK], at);
            at = usize::from(next[at & WINDOW_MASK]);
            if at >= len {
                break;
            }
        }
    }
}
