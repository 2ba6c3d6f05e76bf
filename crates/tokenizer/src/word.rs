//! Words of ASCII letters, found sixteen bytes at a time without the automaton.
//!
//! Most pieces of most text are such a word, with one character before it: the automaton
//! takes three or four dependent steps to learn that. The compiler looks at the automaton
//! for what makes the shortcut exact: one state that all letters lead to from the start
//! and from behind an opener, that letters lead back to, that accepts, and the bytes that
//! end it. Where there is no such state, there is no shortcut.

/// In the map of bytes: a word may begin with it, as a letter…
pub(crate) const LETTER: u8 = 1;
/// …or as the one byte before its letters.
pub(crate) const OPENER: u8 = 2;
/// The word ends before it.
pub(crate) const END: u8 = 4;

/// Bytes of a stage's map.
pub(crate) const MAP: usize = 256;
/// Which letters: none, all of ASCII's, or small ones only.
pub(crate) const NONE: u32 = 0;
pub(crate) const ANY_CASE: u32 = 1;
#[cfg(feature = "compile")]
pub(crate) const SMALL: u32 = 2;

/// Bytes looked at: a word with what ends it, or there is no shortcut.
pub(crate) const REACH: usize = 16;

#[derive(Copy, Clone)]
pub(crate) struct Words<'t> {
    map: Option<&'t [u8; MAP]>,
    /// Set in every byte before it is held against `a` to `z`.
    case: u8,
}

impl<'t> Words<'t> {
    pub(crate) const NONE: Words<'static> = Words { map: None, case: 0 };

    pub(crate) fn new(letters: u32, map: &'t [u8; MAP]) -> Self {
        let map = (letters != NONE).then_some(map);
        Words { map, case: if letters == ANY_CASE { 0x20 } else { 0 } }
    }

    /// Length of the word at the head of `text`, if it ends within what is looked at.
    #[inline(always)]
    pub(crate) fn at_head(&self, text: &[u8]) -> Option<usize> {
        let map = self.map?;
        let chunk = text.first_chunk::<REACH>()?;
        let first = map.get(usize::from(*chunk.first()?)).copied()?;
        if first & (LETTER | OPENER) == 0 {
            return None;
        }
        let skip = usize::from(first & OPENER != 0);
        let run = (!(letters(chunk, self.case) >> skip)).trailing_zeros() as usize;
        let end = skip + run;
        let behind = map.get(usize::from(*chunk.get(end)?)).copied()?;
        (run > 0 && behind & END != 0).then_some(end)
    }
}

/// A bit for each of the sixteen bytes that is a letter.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn letters(chunk: &[u8; REACH], case: u8) -> u32 {
    use std::arch::wasm32::{i64x2, u8x16_bitmask, u8x16_lt, u8x16_splat, u8x16_sub, v128_or};
    let both = u128::from_le_bytes(*chunk);
    let bytes = v128_or(i64x2(both as i64, (both >> 64) as i64), u8x16_splat(case));
    u32::from(u8x16_bitmask(u8x16_lt(u8x16_sub(bytes, u8x16_splat(b'a')), u8x16_splat(26))))
}

/// A bit for each of the sixteen bytes that is a letter.
#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn letters(chunk: &[u8; REACH], case: u8) -> u32 {
    let both = u128::from_le_bytes(*chunk);
    let half = |word: u64| {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x80 * ONES;
        let seven = (word | (u64::from(case) * ONES)) & !HIGH;
        let from_a = seven + u64::from(0x80 - b'a') * ONES;
        let beyond_z = seven + u64::from(0x7F - b'z') * ONES;
        let inside = from_a & !beyond_z & !word & HIGH;
        // Gathers the eight high bits.
        ((inside >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    half(both as u64) | half((both >> 64) as u64) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_told_from_all_other_bytes() {
        for byte in 0..=255u8 {
            for place in 0..REACH {
                let mut chunk = [b'0'; REACH];
                chunk[place] = byte;
                let bit = |is: bool| u32::from(is) << place;
                assert_eq!(letters(&chunk, 0x20), bit(byte.is_ascii_alphabetic()));
                assert_eq!(letters(&chunk, 0), bit(byte.is_ascii_lowercase()));
            }
        }
        assert_eq!(letters(b"the Quick brOwn!", 0x20), 0b0111_1101_1111_0111);
        assert_eq!(letters(b"the Quick brOwn!", 0), 0b0110_1101_1110_0111);
    }

    #[test]
    fn a_word_has_one_opener_and_an_end_within_reach() {
        let mut map = [0; MAP];
        (b'a'..=b'z').for_each(|b| map[usize::from(b)] = LETTER);
        (b'A'..=b'Z').for_each(|b| map[usize::from(b)] = LETTER);
        map[usize::from(b' ')] = OPENER | END;
        map[usize::from(b'.')] = END;
        let words = Words::new(ANY_CASE, &map);
        let length = |text: &str| words.at_head(text.as_bytes());
        assert_eq!(length("the rest is long"), Some(3));
        assert_eq!(length(" the. rest is lo"), Some(4));
        assert_eq!(length("  the. rest is l"), None, "two openers");
        assert_eq!(length(" fourteenletter "), Some(15));
        assert_eq!(length(" fifteenletterss "), None, "the end is out of reach");
        assert_eq!(length("don't stop now, "), None, "no known end");
        assert_eq!(length("né stop now, no"), None);
        assert_eq!(length(". the rest is lo"), None);
        assert_eq!(length("short "), None, "too little text");
        assert_eq!(Words::NONE.at_head(b"the rest is long"), None);
    }
}
