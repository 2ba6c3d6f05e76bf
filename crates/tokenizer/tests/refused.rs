//! What is not supported is refused by name; what is damaged never panics.
#![cfg(not(target_family = "wasm"))]

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use support::{TINY, sentencepiece, split, tiny, with_added, with_splits};
use warmpath_tokenizer::{CompileError, Encoder, Progress, Step, Table, TableError, compile};

fn refusal(json: &Value) -> String {
    let bytes = serde_json::to_vec(json).expect("json");
    compile(&bytes).expect_err("a refusal").to_string()
}

#[track_caller]
fn refuses(json: &Value, naming: &str) {
    let message = refusal(json);
    assert!(message.contains(naming), "{message:?} does not name {naming:?}");
}

#[test]
fn models_other_than_bpe_are_refused_by_name() {
    let mut json = tiny();
    json["model"] = json!({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"});
    refuses(&json, "the model WordPiece");
    json["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]});
    refuses(&json, "the model Unigram");
}

#[test]
fn parts_without_a_form_in_the_table_are_refused_by_name() {
    let set = |part: &str, value: Value| {
        let mut json = tiny();
        json[part] = value;
        json
    };
    let model = |field: &str, value: Value| {
        let mut json = tiny();
        json["model"][field] = value;
        json
    };
    refuses(&set("normalizer", json!({"type": "NFKC"})), "NFKC");
    refuses(&set("normalizer", json!({"type": "Lowercase"})), "Lowercase");
    refuses(&set("pre_tokenizer", json!({"type": "Whitespace"})), "Whitespace");
    refuses(&set("pre_tokenizer", json!({"type": "Punctuation"})), "Punctuation");
    refuses(&model("dropout", json!(0.1)), "dropout");
    refuses(&model("continuing_subword_prefix", json!("##")), "prefix");
    let mut json = sentencepiece();
    json["model"]["byte_fallback"] = json!(false);
    refuses(&json, "byte fallback");
    let mut json = with_splits(&[split("a")]);
    json["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("MergedWithNext");
    refuses(&json, "MergedWithNext");
}

#[test]
fn split_patterns_that_are_not_regular_are_refused() {
    for pattern in [r"a(?=b)|c", r"(?<!x)a", r"^a", r"\bword\b", r"a++|b", r"a*", r"(a)\1"] {
        refuses(&with_splits(&[split(pattern)]), "the split pattern");
    }
}

#[test]
fn a_split_pattern_of_quadratic_time_is_refused() {
    for pattern in [r"a*b|a", r"(ab)*c|[ab]", r"x[a-z ]*!|."] {
        refuses(&with_splits(&[split(pattern)]), "once per character");
    }
}

#[test]
fn a_merge_of_what_is_no_token_is_inconsistent() {
    let mut json = tiny();
    json["model"]["merges"].as_array_mut().expect("a list").push(json!(["nope", "never"]));
    let bytes = serde_json::to_vec(&json).expect("json");
    assert!(matches!(compile(&bytes), Err(CompileError::Inconsistent(_))));
}

#[test]
fn two_added_tokens_that_read_alike_are_refused() {
    let json = with_added(tiny(), &[("\u{212b}", "n"), ("\u{c5}", "n")]);
    refuses(&json, "two added tokens");
}

#[test]
fn what_is_not_json_is_an_error() {
    assert!(matches!(compile(b"{"), Err(CompileError::Json(_))));
    assert!(matches!(compile(b"[]"), Err(CompileError::Json(_))));
}

#[test]
fn other_bytes_are_no_table() {
    let table = compile(TINY).expect("a table").as_bytes().to_vec();
    let error = |bytes: &[u8]| Table::from_bytes(bytes.to_vec()).expect_err("an error");
    assert_eq!(error(b""), TableError::NotATable);
    assert_eq!(error(TINY), TableError::NotATable);
    assert_eq!(error(&table[..100]), TableError::Checksum);
    let mut newer = table.clone();
    newer[8] = 200;
    assert_eq!(error(&newer), TableError::Version { found: 200 });
    let mut flipped = table.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    assert_eq!(error(&flipped), TableError::Checksum);
    assert!(Table::from_bytes(table).is_ok());
}

#[test]
fn the_same_file_gives_the_same_table() {
    let bytes = |()| compile(TINY).expect("a table").as_bytes().to_vec();
    assert!(bytes(()) == bytes(()));
}

/// A table whose checksum was made to fit its damage.
fn forged(table: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = table.to_vec();
    for (at, value) in changes {
        let at = 24 + at % (bytes.len() - 24);
        bytes[at] = *value;
    }
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[24..]);
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn forged_tables_give_some_ids_or_an_error(
        // The directory, the switches and the small sections lie at the head.
        head in prop::collection::vec((0usize..4096, any::<u8>()), 0..40),
        anywhere in prop::collection::vec((any::<usize>(), any::<u8>()), 0..2000),
        spaces in any::<bool>(),
        text in r"\PC{0,200}",
    ) {
        thread_local! {
            static TABLES: [Vec<u8>; 2] = [
                compile(TINY).expect("a table").as_bytes().to_vec(),
                compile(&serde_json::to_vec(&sentencepiece()).expect("json")).expect("a table").as_bytes().to_vec(),
            ];
        }
        let bytes = TABLES.with(|tables| {
            forged(&tables[usize::from(spaces)], &[head, anywhere].concat())
        });
        if let Ok(table) = Table::from_bytes(bytes) {
            let encoder = Encoder::new(table);
            let mut ids = Vec::new();
            encoder.encode(&text, &mut ids);
            encoder.encode("Hello <|im_start|>  world\n\n e\u{301} 中文 ", &mut ids);
            encoder.encode(&"abcab ".repeat(50), &mut ids);
            encoder.encode(&"abcde".repeat(60), &mut ids);
            encoder.encode(&" ".repeat(300), &mut ids);
            let long = "abcde".repeat(1000);
            let mut progress = Progress::new(true);
            while encoder.encode_some(&mut progress, &long, 500, &mut ids) == Step::More {}
        }
    }
}
