//! Writing a character map (see `charmap`).

use std::collections::HashMap;

use crate::charmap::{ASCII, PAGES};

/// Classes of all code points, page by page; code points that are not characters may
/// have any class.
pub(super) fn write(class_of: impl Fn(u32) -> u8) -> Vec<u8> {
    let mut pages: Vec<[u8; 64]> = Vec::new();
    let mut known: HashMap<[u8; 64], u16> = HashMap::new();
    let mut index = Vec::with_capacity(2 * PAGES);
    for page in 0..PAGES as u32 {
        let mut content = [0; 64];
        for (low, class) in content.iter_mut().enumerate() {
            *class = class_of(page * 64 + low as u32);
        }
        let place = *known.entry(content).or_insert_with(|| {
            pages.push(content);
            pages.len() as u16 - 1
        });
        index.extend(place.to_le_bytes());
    }
    let mut out: Vec<u8> = (0..ASCII as u32).map(&class_of).collect();
    out.extend(index);
    out.extend(pages.as_flattened());
    out
}

/// The characters of a regular expression's class, as a map of classes 0 and 1.
pub(super) fn of_class(pattern: &str) -> Vec<u8> {
    let mut member = vec![0u8; 0x11_0000];
    if let Ok(hir) = regex_syntax::parse(pattern)
        && let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) =
            hir.kind()
    {
        for range in class.ranges() {
            for code in u32::from(range.start())..=u32::from(range.end()) {
                member[code as usize] = 1;
            }
        }
    }
    write(|code| member[code as usize])
}

/// Characters that NFC may change, or move, or join with what precedes them.
pub(super) fn of_nfc() -> Vec<u8> {
    use unicode_normalization_alignments::{IsNormalized, char, is_nfc_quick};
    write(|code| match std::char::from_u32(code) {
        Some(c) => {
            let safe = char::canonical_combining_class(c) == 0
                && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes;
            u8::from(!safe)
        }
        None => 0,
    })
}
