//! A class for every character: two levels of tables, 64 characters a page.
//!
//! UTF-8 suits it: the page number is the character's leading bits, the place in the
//! page its last byte's six bits. Pages of equal content are stored once; the whole of
//! Unicode under a split pattern takes some 50 KB.

/// Bytes of the class table for ASCII, at the head of a map's section.
pub(crate) const ASCII: usize = 128;
/// Pages of 64 characters in all of Unicode.
pub(crate) const PAGES: usize = 0x11_0000 / 64;

#[derive(Copy, Clone)]
pub(crate) struct CharMap<'t> {
    ascii: &'t [u8; ASCII],
    index: &'t [[u8; 2]],
    pages: &'t [[u8; 64]],
}

const NO_ASCII: &[u8; ASCII] = &[0; ASCII];

impl<'t> CharMap<'t> {
    pub(crate) const EMPTY: CharMap<'static> = CharMap { ascii: NO_ASCII, index: &[], pages: &[] };

    /// A map over its section; an empty or short section maps everything to class 0.
    pub(crate) fn new(section: &'t [u8]) -> Self {
        let Some((ascii, rest)) = section.split_first_chunk::<ASCII>() else {
            return Self::EMPTY;
        };
        let Some((index, pages)) = rest.split_at_checked(2 * PAGES) else {
            return Self::EMPTY;
        };
        CharMap { ascii, index: index.as_chunks().0, pages: pages.as_chunks().0 }
    }

    #[inline(always)]
    pub(crate) fn ascii(&self, byte: u8) -> u8 {
        self.ascii.get(usize::from(byte)).copied().unwrap_or(0)
    }

    /// The class of the character whose code is `64 * page + low`.
    #[inline(always)]
    fn wide(&self, page: usize, low: u8) -> u8 {
        let Some(page) = self.index.get(page) else { return 0 };
        let Some(page) = self.pages.get(usize::from(u16::from_le_bytes(*page))) else { return 0 };
        page.get(usize::from(low & 63)).copied().unwrap_or(0)
    }

    /// Class and width in bytes of the character that starts at `at`. `text` is UTF-8;
    /// were it not, the answer is some class and a width from 1 to 4.
    #[inline(always)]
    pub(crate) fn class_at(&self, text: &[u8], at: usize) -> (u8, usize) {
        let byte = |i: usize| text.get(at + i).copied().unwrap_or(0);
        let lead = byte(0);
        let low = |i| usize::from(byte(i) & 63);
        match lead {
            0..=0x7F => (self.ascii(lead), 1),
            0x80..=0xDF => (self.wide(usize::from(lead & 31), byte(1)), 2),
            0xE0..=0xEF => (self.wide(usize::from(lead & 15) << 6 | low(1), byte(2)), 3),
            _ => (self.wide(usize::from(lead & 7) << 12 | low(1) << 6 | low(2), byte(3)), 4),
        }
    }

    /// Class of the character that ends right before `end`.
    pub(crate) fn class_before(&self, text: &[u8], end: usize) -> u8 {
        let start = char_start(text, end);
        if start < end { self.class_at(text, start).0 } else { 0 }
    }
}

/// Where the character that ends right before `end` starts; `end` itself at the start.
pub(crate) fn char_start(text: &[u8], end: usize) -> usize {
    let mut at = end;
    for _ in 0..4 {
        if at == 0 {
            break;
        }
        at -= 1;
        if text.get(at).is_none_or(|byte| byte & 0xC0 != 0x80) {
            break;
        }
    }
    at
}
