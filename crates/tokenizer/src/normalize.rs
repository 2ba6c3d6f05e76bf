//! Normalizers: NFC, and SentencePiece's spaces.
//!
//! NFC costs one class lookup per character beyond ASCII: the table knows which
//! characters end a normalization context (class 0: combining class 0 and "NFC quick
//! check = yes"). Only stretches around others go through the normalization proper, by
//! the very crate, and so the Unicode version, of Hugging Face's library. (Its tables
//! are Unicode 9: newer ones order Hebrew marks differently, 19 texts of 9,237.)

use unicode_normalization_alignments::UnicodeNormalization;

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
            to.extend(text.get(from..end).unwrap_or_default().nfc().map(|(c, _)| c));
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
