//! Asking memory for a cache line without waiting for it: the crate's only unsafe code.
//!
//! Rejected: reading the lines instead and keeping the sum, which is safe. A core can not
//! finish a read that memory has not answered, and with 32 of them under way it comes to a
//! stop until the first has: events took a fifth longer.

#![allow(unsafe_code)]

/// Says that this will be read or written soon. Changes nothing but how long that takes.
#[inline(always)]
pub(crate) fn prefetch<T>(soon: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction is of SSE, which every x86-64 has. It neither reads nor
        // writes what a program can see, faults at no address, and this one is a reference's.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(soon).cast()) };
    }
    // Elsewhere there is no way to ask for it in stable Rust.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = soon;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_as_it_is() {
        let lines = vec![[7_u64; 8]; 64];
        lines.iter().for_each(prefetch);
        prefetch(&lines[..0].first());
        assert!(lines.iter().flatten().all(|&number| number == 7));
    }
}
