//! Normalizers: NFC, and SentencePiece's spaces.
//!
//! NFC costs one class lookup per character beyond ASCII: the table knows which
//! characters end a normalization context (class 0: combining class 0 and "NFC quick
//! check = yes"). Only stretches around others go through the normalization proper, by
//! the tables of the very crate, and so the Unicode version, of Hugging Face's library.
//! (They are Unicode 9: newer ones order Hebrew marks differently, 19 texts of 9,237.)
//! That crate's iterator looks each mark up twice and keeps alignments that nobody here
//! needs, at twice the time.

use unicode_normalization_alignments::char::{
    canonical_combining_class, compose, decompose_canonical,
};

use crate::charmap::CharMap;

/// `▁`, SentencePiece's space.
pub(crate) const SPACE: &str = "\u{2581}";

/// Appends `text`, each space as `▁`.
pub(crate) fn spaces(text: &str, to: &mut String) {
    to.reserve(text.len() + text.len() / 2);
    for (i, part) in text.split(' ').enumerate() {
        if i > 0 {
            to.push_str(SPACE);
        }
        to.push_str(part);
    }
}

/// How far the NFC of a text has come.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Nfc {
    at: usize,
    /// Where the last character of class 0 began.
    context: usize,
    /// Everything before is in the buffer.
    copied: usize,
    changed: bool,
}

/// What a byte costs that is normalized, against one that is encoded.
const COST: usize = 4;

impl Nfc {
    /// Whether the text was not NFC, so that the buffer has it.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    /// Goes on with putting the NFC of `text` into `to`, for about `left` bytes' worth of
    /// work; true at the end. Text that is NFC already is only looked at.
    pub(crate) fn go(
        &mut self,
        text: &str,
        classes: &CharMap<'_>,
        to: &mut String,
        left: &mut usize,
    ) -> bool {
        let bytes = text.as_bytes();
        let mut stretch = Stretch::default();
        while self.at < bytes.len() {
            let ascii = ascii_run(bytes, self.at);
            if ascii > 0 {
                self.at += ascii;
                self.context = self.at - 1;
                continue;
            }
            let (class, width) = classes.class_at(bytes, self.at);
            if class == 0 {
                self.context = self.at;
                self.at += width;
                continue;
            }
            if *left == 0 {
                return false;
            }
            let mut end = self.at + width;
            while end < bytes.len() {
                let (class, width) = classes.class_at(bytes, end);
                if class == 0 {
                    break;
                }
                end += width;
            }
            let from = self.context.max(self.copied);
            if !self.changed {
                to.clear();
                to.reserve(text.len());
                self.changed = true;
            }
            to.push_str(text.get(self.copied..from).unwrap_or_default());
            stretch.append(text.get(from..end).unwrap_or_default(), to);
            *left = left.saturating_sub(COST * (end - from));
            (self.copied, self.at, self.context) = (end, end, end);
        }
        if self.changed {
            to.push_str(text.get(self.copied..).unwrap_or_default());
            self.copied = bytes.len();
        }
        true
    }
}

/// Normalizes stretches: Unicode Standard Annex 15, by the tables of the crate.
#[derive(Default)]
struct Stretch {
    /// Decomposed, in canonical order, with the combining classes.
    chars: Vec<(u8, char)>,
    /// Marks behind the last starter that did not become part of it.
    marks: Vec<char>,
}

impl Stretch {
    fn append(&mut self, text: &str, to: &mut String) {
        let Stretch { chars, marks } = self;
        chars.clear();
        let mut marks_from = 0;
        for c in text.chars() {
            decompose_canonical(c, |c| {
                let class = canonical_combining_class(c);
                if class == 0 {
                    order(chars, marks_from);
                    marks_from = chars.len() + 1;
                }
                chars.push((class, c));
            });
        }
        order(chars, marks_from);
        let mut starter = None;
        let mut last = None;
        for &(class, c) in chars.iter() {
            let Some(before) = starter else {
                if class == 0 {
                    starter = Some(c);
                } else {
                    to.push(c);
                }
                continue;
            };
            // A mark of the same class in between blocks it.
            let composed =
                if last < Some(class) || last.is_none() { compose(before, c) } else { None };
            match composed {
                Some(composed) => starter = Some(composed),
                None if class == 0 => {
                    to.push(before);
                    to.extend(marks.drain(..));
                    (starter, last) = (Some(c), None);
                }
                None => {
                    marks.push(c);
                    last = Some(class);
                }
            }
        }
        to.extend(starter);
        to.extend(marks.drain(..));
    }
}

/// Puts the marks from a place on in canonical order.
fn order(chars: &mut [(u8, char)], from: usize) {
    if let Some(marks) = chars.get_mut(from..)
        && !marks.is_sorted_by_key(|(class, _)| *class)
    {
        // Stable: marks of one class keep their order.
        marks.sort_by_key(|(class, _)| *class);
    }
}

/// How many bytes from `at` on are ASCII, counted eight at a time.
#[inline]
fn ascii_run(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    let mut run = 0;
    for word in words {
        let high = u64::from_le_bytes(*word) & 0x8080_8080_8080_8080;
        if high != 0 {
            return run + high.trailing_zeros() as usize / 8;
        }
        run += 8;
    }
    run + tail.iter().take_while(|byte| byte.is_ascii()).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization_alignments::UnicodeNormalization;

    use super::*;

    fn agrees(text: &str) {
        let mut normalized = String::new();
        Stretch::default().append(text, &mut normalized);
        assert_eq!(normalized, text.nfc().map(|(c, _)| c).collect::<String>(), "on {text:?}");
    }

    #[test]
    fn every_character_is_normalized_as_by_the_crate() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            agrees(&format!("{c}"));
            agrees(&format!("e{c}\u{301}{c}\u{323}"));
        }
    }

    proptest! {
        #[test]
        fn marks_and_jamo_are_normalized_as_by_the_crate(
            text in "[a-eA-E\u{300}-\u{362}\u{5b0}-\u{5c7}\u{93c}-\u{94d}\u{f71}-\u{f84}\u{1100}-\u{11ff}가-갛\u{212a}-\u{212b}\u{340}-\u{345}]{0,24}"
        ) {
            agrees(&text);
        }
    }
}
