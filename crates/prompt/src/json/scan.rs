//! Where a run of plain string characters ends, sixteen bytes at a time.
//!
//! Strings are nearly all of a body, and this looks at each of their bytes once: in
//! vectors where the target has them (`simd128` in Envoy), eight bytes to a word
//! elsewhere. Rejected: crates that search for bytes, which know no ranges and take a
//! call for each of the short runs between line feeds.

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 16;

/// How many bytes of `block`, from its start, stand for themselves: neither a quote, nor
/// a backslash, nor a control character.
#[cfg(all(target_family = "wasm", target_feature = "simd128"))]
#[inline]
pub(super) fn plain(block: &[u8; BLOCK]) -> usize {
    use core::arch::wasm32::{u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, u64x2, v128_or};
    let (low, high) = halves(block);
    let bytes = u64x2(low, high);
    let quote = u8x16_eq(bytes, u8x16_splat(b'"'));
    let backslash = u8x16_eq(bytes, u8x16_splat(b'\\'));
    let control = u8x16_lt(bytes, u8x16_splat(0x20));
    let ends = u8x16_bitmask(v128_or(v128_or(quote, backslash), control));
    (u32::from(ends) | 1 << BLOCK).trailing_zeros() as usize
}

#[cfg(not(all(target_family = "wasm", target_feature = "simd128")))]
#[inline]
pub(super) fn plain(block: &[u8; BLOCK]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    // The top bit of each byte that ends a run; above the lowest one, others may be set
    // falsely by its borrow.
    let ends = |word: u64| {
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        (control | quote | backslash) & TOPS
    };
    let (low, high) = halves(block);
    let (low, high) = (ends(low), ends(high));
    let ends = if low == 0 { high } else { low };
    let skipped = if low == 0 { BLOCK / 2 } else { 0 };
    skipped + ends.trailing_zeros() as usize / 8
}

#[inline]
fn halves(block: &[u8; BLOCK]) -> (u64, u64) {
    let both = u128::from_le_bytes(*block);
    (both as u64, (both >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_end_where_the_first_special_byte_is(
            mut block in any::<[u8; BLOCK]>(), calm in any::<u16>(),
        ) {
            for (at, byte) in block.iter_mut().enumerate() {
                if calm >> at & 1 == 1 {
                    *byte |= 0x80;
                }
            }
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
            let expected = block.iter().position(special).unwrap_or(BLOCK);
            prop_assert_eq!(plain(&block), expected);
        }
    }
}
