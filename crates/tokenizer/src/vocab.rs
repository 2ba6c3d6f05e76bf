//! The vocabulary as a hash table of whole pieces.
//!
//! Most pieces of ordinary text are one token, so this lookup is the hot path. Tokens
//! of up to 12 bytes lie in the slot itself, 16 bytes in all: one cache line decides.
//! Longer ones are rare and take a second table with their bytes in a pool. Tokens are
//! inserted by ascending id, so that frequent ones sit in their first slot.
//!
//! A slot knows whether the token *folds*: whether the merges, run on its text alone,
//! give this very token. Only then may a hit stand for the merging (or where the model
//! says `ignore_merges`, for which the compiler sets the bit everywhere).

/// Longest piece that is compared inside its slot.
pub(crate) const SHORT: usize = 12;
/// Longest piece that is loaded as one [`Key`].
pub(crate) const KEY: usize = 16;

/// Ids, and ranks, are below this.
pub(crate) const MAX_IDS: u32 = 1 << 21;
const ID_BITS: u32 = 21;
const ID_MASK: u32 = MAX_IDS - 1;
/// In a slot: the merges of the token's text give the token.
pub(crate) const FOLDS: u32 = 1 << 30;
/// In a slot: there is a token.
pub(crate) const USED: u32 = 1 << 31;

const K1: u64 = 0x9E37_79B9_7F4A_7C15;
const K2: u64 = 0xC2B2_AE3D_27D4_EB4F;

/// A piece of up to 16 bytes, zero-padded, as two words.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Key {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) len: u32,
}

/// Masks that keep the first `n` of 16 bytes.
#[allow(clippy::indexing_slicing, reason = "evaluated at compile time")]
static KEEP: [(u64, u64); KEY + 1] = {
    let mut keep = [(u64::MAX, u64::MAX); KEY + 1];
    let mut n = 0;
    while n < KEY {
        keep[n] = if n == 0 {
            (0, 0)
        } else if n <= 8 {
            (u64::MAX >> (64 - 8 * n), 0)
        } else {
            (u64::MAX, u64::MAX >> (128 - 8 * n))
        };
        n += 1;
    }
    keep
};

impl Key {
    /// Loads `text[start..start + len]`; `len` is at most 16.
    #[inline(always)]
    pub(crate) fn load(text: &[u8], start: usize, len: usize) -> Key {
        let rest = text.get(start..).unwrap_or_default();
        let chunk = match rest.first_chunk::<KEY>() {
            Some(chunk) => *chunk,
            None => {
                let mut chunk = [0; KEY];
                for (to, from) in chunk.iter_mut().zip(rest) {
                    *to = *from;
                }
                chunk
            }
        };
        let both = u128::from_le_bytes(chunk);
        let (low, high) = KEEP.get(len).copied().unwrap_or((0, 0));
        Key { low: both as u64 & low, high: (both >> 64) as u64 & high, len: len as u32 }
    }

    #[inline(always)]
    pub(crate) fn hash(self) -> u64 {
        let mixed = (self.low ^ self.high.wrapping_mul(K2).rotate_left(23)).wrapping_mul(K1);
        mixed ^ mixed >> 29
    }
}

/// Hash of a longer piece.
pub(crate) fn hash_long(piece: &[u8]) -> u64 {
    let (words, rest) = piece.as_chunks::<8>();
    let mut hash = (piece.len() as u64).wrapping_mul(K2);
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(K1);
        hash ^= hash >> 32;
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(K1);
    hash ^ hash >> 29
}

/// The slot where a search for `hash` begins, of `slots`.
#[inline(always)]
pub(crate) fn home(hash: u64, slots: usize) -> usize {
    (((hash & 0xFFFF_FFFF) * slots as u64) >> 32) as usize
}

/// The last four bytes of a short slot.
#[cfg(feature = "compile")]
pub(crate) fn short_tag(id: u32, len: u32, folds: bool) -> u32 {
    USED | if folds { FOLDS } else { 0 } | len << ID_BITS | id
}

/// A token that a piece's bytes are the text of.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hit {
    pub(crate) id: u32,
    pub(crate) folds: bool,
}

impl Hit {
    #[inline(always)]
    fn of(tag: u32) -> Hit {
        Hit { id: tag & ID_MASK, folds: tag & FOLDS != 0 }
    }
}

#[derive(Copy, Clone)]
pub(crate) struct Vocab<'t> {
    short: &'t [[u8; 16]],
    long: &'t [[u8; 12]],
    pool: &'t [u8],
    longest: usize,
}

impl<'t> Vocab<'t> {
    pub(crate) fn new(short: &'t [u8], long: &'t [u8], pool: &'t [u8], longest: u32) -> Self {
        Vocab {
            short: short.as_chunks().0,
            long: long.as_chunks().0,
            pool,
            longest: longest as usize,
        }
    }

    /// The token whose text is the piece `key` of at most 12 bytes with this `hash`.
    #[inline(always)]
    pub(crate) fn short(&self, key: Key, hash: u64) -> Option<Hit> {
        let mut slot = home(hash, self.short.len());
        for _ in 0..self.short.len() {
            let bytes = u128::from_le_bytes(*self.short.get(slot)?);
            let tag = (bytes >> 96) as u32;
            let (low, high) = (bytes as u64, u64::from((bytes >> 64) as u32));
            let len = tag >> ID_BITS & 15;
            if low == key.low && high == key.high && len == key.len {
                return Some(Hit::of(tag));
            }
            if tag & USED == 0 {
                return None;
            }
            slot += 1;
            if slot == self.short.len() {
                slot = 0;
            }
        }
        None
    }

    /// The token whose text is `piece`, of more than 12 bytes.
    #[inline(never)]
    pub(crate) fn long(&self, piece: &[u8]) -> Option<Hit> {
        if piece.len() > self.longest {
            return None;
        }
        let hash = hash_long(piece);
        let mut slot = home(hash, self.long.len());
        for _ in 0..self.long.len() {
            let bytes = self.long.get(slot)?;
            let tag = crate::table::read_u32(bytes, 0)?;
            if tag & USED == 0 {
                return None;
            }
            if crate::table::read_u32(bytes, 4)? == (hash >> 32) as u32 {
                let at = crate::table::read_u32(bytes, 8)? as usize;
                let (len, rest) = self.pool.get(at..)?.split_first_chunk::<2>()?;
                if rest.get(..usize::from(u16::from_le_bytes(*len)))? == piece {
                    return Some(Hit::of(tag));
                }
            }
            slot += 1;
            if slot == self.long.len() {
                slot = 0;
            }
        }
        None
    }

    /// The token whose text is `piece`, of any length.
    pub(crate) fn find(&self, piece: &[u8]) -> Option<Hit> {
        if piece.len() > SHORT {
            return self.long(piece);
        }
        let key = Key::load(piece, 0, piece.len());
        self.short(key, key.hash())
    }
}
