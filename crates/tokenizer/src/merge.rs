//! Merging: the lowest rank first, the leftmost of equals first.
//!
//! A merge's slot is one word: left id, right id and rank in 21 bits each, and a bit that
//! says of what it makes that it is part of a merge of lower rank; what the pair becomes
//! is looked up by rank, by winners only, or is the rank itself where tokens were made in
//! the order of their ids. Of a vocabulary's merges the
//! table has those that ever fire. That is exact: whenever a token is made inside a
//! text, no merge has crossed its borders before, so within them everything happened
//! as when its own text is encoded alone, in the same order (ranks, then positions).
//! So the merge that makes a token is the last one of its own encoding, and every
//! other merge to it never fires anywhere. (Llama 3: 280,147 → 127,156.)
//!
//! What costs here is not arithmetic but cache misses: a vocabulary's merges are
//! megabytes. So two small tables stand in front: pairs of bytes, the first half of all
//! lookups, are an array by both bytes; and a filter of 8 bits per merge answers most
//! of the pairs that never merge.
//!
//! Nor need all merges wait for their turn. Two bytes merge for certain if their rank is
//! below that of every merge that could take one of them away: of the first with anything
//! that ends in the byte before, of the second with anything that begins with the byte
//! behind. Where no merge of what it becomes ranks before it, merging such a pair at once
//! changes nothing: what it may join then has its turn behind it anyway. The compiler puts
//! these least ranks beside the pair's own; a third to a half of all merges are certain.
//!
//! Rejected, for want of a gain in V8: finding the certain pairs of a window without a
//! branch, least ranks of groups kept without reading them again, and beginning with whole
//! characters of Chinese where nothing around them can come first (6 %, for 160 KB).

use crate::vocab::home;

const BITS: u32 = 21;
const MASK: u64 = (1 << BITS) - 1;
const PAIR: u64 = (1 << (2 * BITS)) - 1;
/// What the merge makes is part of a merge that ranks before it.
const EARLY: u64 = 1 << 63;
/// A slot without a merge.
pub(crate) const EMPTY_SLOT: u64 = u64::MAX;
/// No merge: larger than every rank.
pub(crate) const NONE: u32 = u32::MAX;

/// Symbols that [`Window`] holds.
pub(crate) const WINDOW: usize = 64;
const WINDOW_MASK: usize = WINDOW - 1;
const WINDOW_BITS: u32 = 6;
/// Beyond every place: no neighbour.
const NOTHING: u8 = u8::MAX;
/// Pairs whose least is kept, so that a merge looks at a few groups and not at all pairs.
const GROUP: usize = 8;

pub(crate) fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) | u64::from(right) << BITS
}

#[cfg(feature = "compile")]
pub(crate) fn slot(left: u32, right: u32, rank: u32, early: bool) -> u64 {
    pair(left, right) | u64::from(rank) << (2 * BITS) | if early { EARLY } else { 0 }
}

#[inline(always)]
pub(crate) fn hash(pair: u64) -> u64 {
    let mixed = pair.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed >> 32
}

/// In [`Merges::bytes`]' table: the bytes do not merge.
pub(crate) const NO_PAIR: u16 = u16::MAX;
/// In [`Merges::bytes`]' table: the rank is this or larger, or the merge never certain.
pub(crate) const FAR_PAIR: u16 = u16::MAX - 1;
/// An entry of that table: rank, `before`, `behind` and nothing.
pub(crate) const PAIR_ENTRY: usize = 8;

/// What is known of two bytes in a row.
#[derive(Copy, Clone, Default)]
struct Bytes {
    /// The rank of their merge.
    rank: u16,
    /// The least rank of a merge of the second byte with anything that the first one ends.
    before: u16,
    /// The least rank of a merge of the first byte with anything that the second one begins.
    behind: u16,
}

#[derive(Copy, Clone)]
pub(crate) struct Merges<'t> {
    slots: &'t [[u8; 8]],
    merged: &'t [[u8; 4]],
    filter: &'t [u8],
    pairs: &'t [[u8; PAIR_ENTRY]],
}

impl<'t> Merges<'t> {
    pub(crate) fn new(
        slots: &'t [u8],
        merged: &'t [u8],
        filter: &'t [u8],
        pairs: &'t [u8],
    ) -> Self {
        Merges {
            slots: slots.as_chunks().0,
            merged: merged.as_chunks().0,
            filter,
            pairs: pairs.as_chunks().0,
        }
    }

    #[inline(always)]
    fn bytes(&self, first: u8, second: u8) -> Bytes {
        let place = usize::from(first) << 8 | usize::from(second);
        // Without the table, nothing is known.
        let Some(entry) = self.pairs.get(place) else {
            return Bytes { rank: FAR_PAIR, before: 0, behind: 0 };
        };
        let entry = u64::from_le_bytes(*entry);
        Bytes { rank: entry as u16, before: (entry >> 16) as u16, behind: (entry >> 32) as u16 }
    }

    /// The rank of merging `left` and `right`, or [`NONE`].
    #[inline(always)]
    pub(crate) fn rank(&self, left: u32, right: u32) -> u32 {
        match self.find(left, right) {
            EMPTY_SLOT => NONE,
            slot => (slot >> (2 * BITS) & MASK) as u32,
        }
    }

    /// Whether what `left` and `right` become is part of a merge that ranks before theirs.
    pub(crate) fn is_early(&self, left: u32, right: u32) -> bool {
        self.find(left, right) & EARLY != 0
    }

    /// The pair's slot, or [`EMPTY_SLOT`].
    #[inline(always)]
    fn find(&self, left: u32, right: u32) -> u64 {
        let wanted = pair(left, right);
        let hash = hash(wanted);
        let bit = home(hash, 8 * self.filter.len());
        if self.filter.get(bit / 8).is_none_or(|byte| byte >> (bit % 8) & 1 == 0) {
            return EMPTY_SLOT;
        }
        let mut at = home(hash, self.slots.len());
        for _ in 0..self.slots.len() {
            let slot = self.slots.get(at).map_or(EMPTY_SLOT, |slot| u64::from_le_bytes(*slot));
            if slot & PAIR == wanted || slot == EMPTY_SLOT {
                return slot;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        EMPTY_SLOT
    }

    /// What a pair of this rank becomes: the rank itself is the id where the table lists none.
    #[inline(always)]
    pub(crate) fn merged(&self, rank: u32) -> u32 {
        self.merged.get(rank as usize).map_or(rank, |id| u32::from_le_bytes(*id))
    }
}

/// Up to 64 symbols being merged: arrays of fixed size, so that masked indexes need no
/// checks, and the next merge is the minimum of a few groups' minima, which vectorise.
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

#[inline(always)]
fn pack(rank: u32, at: usize) -> u32 {
    if rank == NONE { NONE } else { rank << WINDOW_BITS | at as u32 }
}

impl Window {
    /// Takes up to 64 symbols; more are left out.
    #[inline]
    pub(crate) fn fill(&mut self, merges: &Merges<'_>, symbols: &[u32]) {
        self.len = symbols.len().min(WINDOW);
        for (to, from) in self.symbols.iter_mut().zip(symbols) {
            *to = *from;
        }
        for (at, (to, pair)) in self.pairs.iter_mut().zip(symbols.windows(2)).enumerate() {
            if let [left, right] = pair {
                *to = pack(merges.rank(*left, *right), at);
            }
        }
        if let Some(last) = self.pairs.get_mut(self.len.saturating_sub(1)) {
            *last = NONE;
        }
        for (at, (next, previous)) in self.next.iter_mut().zip(&mut self.previous).enumerate() {
            *next = if at + 1 < self.len { at as u8 + 1 } else { NOTHING };
            *previous = (at as u8).wrapping_sub(1);
        }
    }

    /// Takes the symbols of up to 64 bytes; `id` says what a byte's symbol is. Pairs of
    /// bytes whose merge is certain are merged right here.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "every index is masked to the arrays' length")]
    pub(crate) fn fill_bytes(&mut self, merges: &Merges<'_>, text: &[u8], id: impl Fn(u8) -> u32) {
        self.len = text.len().min(WINDOW);
        let byte = |at: usize| text.get(at).copied().unwrap_or(0);
        const FREE: Bytes = Bytes { rank: NO_PAIR, before: NO_PAIR, behind: NO_PAIR };
        let pair = |at: usize| match at + 1 < self.len {
            true => merges.bytes(byte(at), byte(at + 1)),
            false => FREE,
        };
        let (mut before, mut here) = (FREE, pair(0));
        // The symbol before, its place, and whether it is the byte there.
        let mut last = (0, 0, false);
        let mut at = 0;
        while at < self.len {
            let behind = pair(at + 1);
            // None of the merges that could take one of the two bytes comes before theirs.
            let certain =
                here.rank < FAR_PAIR && here.rank < before.before && here.rank < behind.behind;
            let symbol = match certain {
                true => merges.merged(u32::from(here.rank)),
                false => id(byte(at)),
            };
            self.symbols[at & WINDOW_MASK] = symbol;
            self.previous[at & WINDOW_MASK] = last.1 as u8;
            self.pairs[at & WINDOW_MASK] = NONE;
            if at > 0 {
                let rank = match before.rank {
                    NO_PAIR if last.2 && !certain => NONE,
                    rank if last.2 && !certain && rank != FAR_PAIR => u32::from(rank),
                    _ => merges.rank(last.0, symbol),
                };
                self.pairs[last.1 & WINDOW_MASK] = pack(rank, last.1);
                self.next[last.1 & WINDOW_MASK] = at as u8;
            }
            last = (symbol, at, !certain);
            if certain {
                self.pairs[(at + 1) & WINDOW_MASK] = NONE;
                (before, here) = (behind, pair(at + 2));
                at += 2;
            } else {
                (before, here) = (here, behind);
                at += 1;
            }
        }
        self.previous[0] = NOTHING;
        self.next[last.1 & WINDOW_MASK] = NOTHING;
    }

    /// Merges until no pair is left, then gives each token and its first symbol's place.
    #[allow(clippy::indexing_slicing, reason = "every index is masked to the arrays' length")]
    pub(crate) fn merge(&mut self, merges: &Merges<'_>, mut token: impl FnMut(u32, usize)) {
        let len = self.len.min(WINDOW);
        if len == 0 {
            return;
        }
        let Window { symbols, pairs, next, previous, .. } = self;
        let groups = len.div_ceil(GROUP);
        for pair in &mut pairs[len..groups * GROUP] {
            *pair = NONE;
        }
        let mut least = [NONE; WINDOW / GROUP];
        for (group, least) in least.iter_mut().enumerate().take(groups) {
            *least = least_of(pairs, group);
        }
        for _ in 0..len {
            let best = least.iter().fold(NONE, |best, pair| best.min(*pair));
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
                pairs[at] = pack(merges.rank(merged, right), at);
            }
            let before = usize::from(previous[at]);
            if before < len {
                let left = symbols[before & WINDOW_MASK];
                pairs[before & WINDOW_MASK] = pack(merges.rank(left, merged), before);
                if before / GROUP != at / GROUP {
                    least[before / GROUP % least.len()] = least_of(pairs, before / GROUP);
                }
            }
            if dead / GROUP != at / GROUP {
                least[dead / GROUP] = least_of(pairs, dead / GROUP);
            }
            least[at / GROUP] = least_of(pairs, at / GROUP);
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

/// The least of a group of eight pairs.
#[inline(always)]
fn least_of(pairs: &[u32; WINDOW], group: usize) -> u32 {
    let groups = pairs.as_chunks::<GROUP>().0;
    groups.get(group).map_or(NONE, |group| group.iter().fold(NONE, |a, b| a.min(*b)))
}
