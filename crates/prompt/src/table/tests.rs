use super::*;
use tokenizers::normalizers::unicode::{NFC, NFD};
use tokenizers::{NormalizedString, Normalizer};
use unicode_normalization::UnicodeNormalization;

fn with(normalizer: &impl Normalizer, text: &str) -> String {
    let mut normalized = NormalizedString::from(text);
    normalizer.normalize(&mut normalized).unwrap();
    normalized.get().to_owned()
}

/// Whether the two NFC tables order `char` differently among marks.
fn moves(char: char) -> bool {
    let texts = [format!("{char}"), format!("{char}\u{334}"), format!("\u{345}{char}")];
    texts.iter().any(|text| with(&NFC, text) != text.nfc().collect::<String>())
}

/// All planes with assigned characters.
fn characters() -> impl Iterator<Item = char> {
    ('\0'..='\u{33fff}').chain('\u{e0000}'..='\u{e01ff}')
}

#[test]
fn the_newer_characters_are_where_the_normalization_tables_part() {
    let mut parting: std::collections::BTreeSet<char> =
        characters().filter(|char| moves(*char)).collect();
    for char in characters() {
        let text = char.to_string();
        let newer: String = text.nfd().collect();
        if newer != with(&NFD, &text) {
            parting.extend(newer.chars().next());
            parting.insert(char);
        }
    }
    let mut ranges: Vec<(char, char)> = Vec::new();
    for char in parting {
        match ranges.last_mut() {
            Some((_, end)) if u32::from(*end) + 1 == u32::from(char) => *end = char,
            _ => ranges.push((char, char)),
        }
    }
    assert_eq!(ranges, NEWER, "{ranges:?}");
}

#[test]
fn newer_characters_are_encoded_beside_ascii_only() {
    for (text, parts) in [
        ("a\u{8d3}b", false),
        ("\u{8d3}", false),
        ("é\u{8d3}", true),
        ("\u{8d3}\u{301}", true),
        ("\u{8d3}\u{8d3}", true),
        ("éé x\u{8d3}", false),
        ("e\u{301}\u{323}", false),
    ] {
        assert_eq!(normalizations_part(text), parts, "{text:?}");
    }
}
