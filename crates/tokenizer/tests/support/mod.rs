//! Small tokenizers for the tests, trained on nothing: a byte alphabet, some merges.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod models;

use serde_json::{Value, json};
use tokenizers::Tokenizer;
use warmpath_tokenizer::{Encoder, compile};

pub(crate) const TINY: &[u8] = include_bytes!("../../../../tests/models/tiny/tokenizer.json");

/// Both sides of a comparison.
pub(crate) struct Pair {
    pub(crate) table: Encoder,
    pub(crate) library: Tokenizer,
}

impl Pair {
    pub(crate) fn new(json: &Value) -> Pair {
        let json = serde_json::to_vec(json).expect("json");
        let table = compile(&json).unwrap_or_else(|error| panic!("{error}"));
        let library = Tokenizer::from_bytes(&json).expect("the library reads it");
        Pair { table: Encoder::new(table), library }
    }

    pub(crate) fn table(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.table.encode(text, &mut ids);
        ids
    }

    pub(crate) fn library(&self, text: &str) -> Vec<u32> {
        self.library.encode_fast(text, false).expect("ids").get_ids().to_vec()
    }

    #[track_caller]
    pub(crate) fn agree(&self, text: &str) {
        assert_eq!(self.table(text), self.library(text), "on {text:?}");
    }

    /// Agreement on the built-in corpus and on each of `texts`.
    #[track_caller]
    pub(crate) fn agree_on_all(&self, texts: &[&str]) {
        for text in warmpath_tokenizer::corpus() {
            self.agree(&text);
        }
        texts.iter().for_each(|text| self.agree(text));
    }
}

/// The tiny model's tokenizer as JSON, to be changed.
pub(crate) fn tiny() -> Value {
    serde_json::from_slice(TINY).expect("json")
}

pub(crate) fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

pub(crate) fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// The tiny model with these pre-tokenizers before the byte level, and no normalizer.
pub(crate) fn with_splits(splits: &[Value]) -> Value {
    let mut json = tiny();
    let mut parts = splits.to_vec();
    parts.push(byte_level());
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": parts});
    json
}

/// A SentencePiece BPE with byte fallback: merges of common English pairs, and runs.
pub(crate) fn sentencepiece() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut add = |token: String| {
        let next = vocab.len();
        vocab.entry(token).or_insert_with(|| json!(next));
    };
    ["<unk>", "<s>", "</s>"].iter().for_each(|token| add((*token).to_owned()));
    (0..=255u8).for_each(|byte| add(format!("<0x{byte:02X}>")));
    "▁etaoinshrdlucmfwypvbgkjxqzETAOIN.,!'\"0123456789é中文".chars().for_each(|c| add(c.into()));
    let merges = [
        ("▁", "t"),
        ("h", "e"),
        ("i", "n"),
        ("▁t", "he"),
        ("e", "r"),
        ("▁", "▁"),
        ("o", "n"),
        ("a", "n"),
        ("▁", "a"),
        ("▁▁", "▁▁"),
        ("in", "g"),
        ("l", "l"),
        ("▁", "he"),
        ("t", "h"),
        ("e", "e"),
        ("ee", "ee"),
        ("▁▁", "▁"),
        ("中", "文"),
        ("1", "2"),
        ("12", "3"),
        ("a", "a"),
        ("▁a", "n"),
        ("an", "d"),
        ("▁an", "d"),
        ("aa", "a"),
        ("h", "el"),
        ("e", "l"),
        ("o", "o"),
    ];
    merges.iter().for_each(|(a, b)| add(format!("{a}{b}")));
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    })
}

pub(crate) fn special(id: u32, content: &str) -> Value {
    added(id, content, "")
}

/// An added token; flags by letter: `l`strip, `r`strip, single `w`ord, `n`ormalized.
pub(crate) fn added(id: u32, content: &str, flags: &str) -> Value {
    let has = |flag| flags.contains(flag);
    json!({
        "id": id, "content": content, "single_word": has('w'), "lstrip": has('l'),
        "rstrip": has('r'), "normalized": has('n'), "special": flags.is_empty(),
    })
}

/// `json` with these tokens added behind its vocabulary.
pub(crate) fn with_added(mut json: Value, tokens: &[(&str, &str)]) -> Value {
    let first = 9000;
    let list = json["added_tokens"].as_array_mut().expect("a list");
    for (i, (content, flags)) in tokens.iter().enumerate() {
        list.push(added(first + i as u32, content, flags));
    }
    json
}
