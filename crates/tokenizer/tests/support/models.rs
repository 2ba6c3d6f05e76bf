//! Every family of tokenizers that a table has a form for, on small vocabularies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{sentencepiece, split, tiny, with_splits};

const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn deepseek() -> Vec<Value> {
    vec![
        split(r"\p{N}{1,3}"),
        split("[一-龥\u{3040}-ゟ゠-ヿ]+"),
        split(
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
        ),
    ]
}

/// Every split family on the tiny vocabulary, by name.
pub(crate) fn families() -> Vec<(&'static str, Value)> {
    let one = |pattern: &str| with_splits(&[split(pattern)]);
    let mut gpt2 = tiny();
    gpt2["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let mut starcoder = gpt2.clone();
    starcoder["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    ]});
    let mut dropping = split(r"[\p{L}\p{M}]+|\p{N}{1,2}|[^\s\p{L}\p{N}]+");
    dropping["behavior"] = json!("Removed");
    dropping["invert"] = json!(true);
    let mut ignoring = one(LLAMA3);
    ignoring["model"]["ignore_merges"] = json!(true);
    vec![
        ("as it is", tiny()),
        ("qwen 3.5", one(QWEN35)),
        ("llama 3", ignoring),
        ("o200k", one(O200K)),
        ("tekken", one(TEKKEN)),
        ("kimi", one(KIMI)),
        ("deepseek", with_splits(&deepseek())),
        ("gpt-2", gpt2),
        ("starcoder", starcoder),
        ("dropping", with_splits(&[dropping])),
        ("no split", with_splits(&[])),
        ("unmatched text", with_splits(&[split(r"[a-z]+|\p{N}{1,3}")])),
    ]
}

pub(crate) fn spaces() -> Vec<(&'static str, Value)> {
    let metaspace = |scheme: &str, split: bool| {
        let mut json = sentencepiece();
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
        json
    };
    let mut gemma = sentencepiece();
    gemma["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    gemma["pre_tokenizer"] = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    let mut crossing = sentencepiece();
    let next = crossing["model"]["vocab"].as_object().expect("a map").len();
    crossing["model"]["vocab"]["e▁"] = json!(next);
    crossing["model"]["merges"].as_array_mut().expect("a list").push(json!(["e", "▁"]));
    vec![
        ("prepend and replace", sentencepiece()),
        ("metaspace first", metaspace("first", false)),
        ("metaspace always", metaspace("always", true)),
        ("metaspace never", metaspace("never", true)),
        ("gemma", gemma),
        ("a token across a space", crossing),
    ]
}

pub(crate) const FLAGS: &[(&str, &str)] = &[
    ("<mask>", "l"),
    ("<right>", "r"),
    ("<both>", "lr"),
    ("word", "w"),
    ("the", "wn"),
    ("é", "n"),
    ("<n>", "n"),
    ("\u{212b}", "n"),
    ("<|im_start|>x", ""),
    ("ab", "wl"),
    ("中文", "wr"),
    (" x", "n"),
    ("\n\n", ""),
    ("<", "w"),
];

/// Text that is hard in some way.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zA-Z]{1,9}",
        2 => "[ \t\r\n\u{a0}\u{3000}]{1,5}",
        2 => r"\PC{1,6}",
        1 => "[0-9]{1,7}",
        1 => "'(s|T|re|LL|d)",
        1 => "[\u{300}-\u{330}\u{5b0}-\u{5c7}\u{1100}-\u{11ff}가-힣]{1,5}",
        1 => "[一-龥]{1,40}",
        1 => any::<char>().prop_map(String::from),
        1 => (any::<char>(), 1..150usize).prop_map(|(c, n)| c.to_string().repeat(n)),
        1 => "[ab]{1,300}",
        2 => prop::sample::select(FLAGS).prop_map(|(content, _)| content.to_owned()),
        2 => prop::sample::select(&["<|im_start|>", "<|im_end|>", "<s>", "</s>", "▁", "▁▁"][..]).prop_map(String::from),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Text of few units that repeat themselves, for a while each.
pub(crate) fn repetitive() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        3 => "[ab= \n]{1,5}",
        1 => "[\u{301}中文é🙂a]{1,4}",
    ];
    prop::collection::vec((unit, 1..400usize), 1..6)
        .prop_map(|runs| runs.into_iter().map(|(unit, n)| unit.repeat(n)).collect())
}
