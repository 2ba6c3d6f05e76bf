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

/// Puts the NFC of `text` into `to` and says true, or says false: it is NFC already.
pub(crate) fn nfc(text: &str, classes: &CharMap<'_>, to: &mut String) -> bool {
    let bytes = text.as_bytes();
    // Everything before `copied` is in `to`; `context` is where the last class 0 began.
    let (mut copied, mut context, mut at) = (0, 0, 0);
    let mut changed = false;
    while at < bytes.len() {
        let ascii = ascii_run(bytes, at);
        if ascii > 0 {
            at += ascii;
            context = at - 1;
            continue;
        }
        let (class, width) = classes.class_at(bytes, at);
        if class == 0 {
            context = at;
            at += width;
            continue;
        }
        let mut end = at + width;
        while end < bytes.len() {
            let (class, width) = classes.class_at(bytes, end);
            if class == 0 {
                break;
            }
            end += width;
        }
        let from = context.max(copied);
        if !changed {
            to.clear();
            to.reserve(text.len());
            changed = true;
        }
        to.push_str(text.get(copied..from).unwrap_or_default());
        to.extend(text.get(from..end).unwrap_or_default().nfc().map(|(c, _)| c));
        copied = end;
        at = end;
        context = end;
    }
    if changed {
        to.push_str(text.get(copied..).unwrap_or_default());
    }
    changed
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
