//! Tables against Hugging Face's library.
#![cfg(not(target_family = "wasm"))]

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Pair, sentencepiece, split, tiny, with_added, with_splits};

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
fn families() -> Vec<(&'static str, Value)> {
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

fn spaces() -> Vec<(&'static str, Value)> {
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

const FLAGS: &[(&str, &str)] = &[
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

const FLAGGED: &[&str] = &[
    "a <mask> b  <mask>\t<mask>",
    "a <right>  b<right>\n\n c",
    " <both> \u{a0} <both><both> ",
    "word words sword word, _word_ word",
    "the other the, THE the\u{301}",
    "e\u{301} é É",
    "x <n> y<n>",
    "Å \u{212b} A\u{30a}",
    "<|im_start|>x<|im_start|>",
    "ab abc  ab .ab ab",
    "中文 中文字 x中文  y",
    "1 x x  x",
    "a\n\n\nb\n\n",
    "a<b <<< <|im_end|><",
    "<mask",
    "<s>the</s>  the<s>",
    "",
];

#[test]
fn every_split_family_agrees_with_the_library() {
    for (name, json) in families() {
        println!("{name}");
        Pair::new(&json).agree_on_all(&[]);
    }
}

#[test]
fn sentencepiece_agrees_with_the_library() {
    for (name, json) in spaces() {
        println!("{name}");
        Pair::new(&json).agree_on_all(&["the  and ▁▁the", "eeeeeeeeeeeee ee", " 123aaaa"]);
    }
}

#[test]
fn added_tokens_agree_with_all_their_flags() {
    let models = families().into_iter().take(3).chain(spaces());
    for (name, json) in models {
        println!("{name}");
        let pair = Pair::new(&with_added(json, FLAGS));
        FLAGGED.iter().for_each(|text| pair.agree(text));
    }
}

#[test]
fn every_character_of_the_basic_plane_agrees() {
    let pair = Pair::new(&tiny());
    let all: Vec<char> = (0..=0x2_FFFF).filter_map(char::from_u32).collect();
    for chunk in all.chunks(4096) {
        pair.agree(&chunk.iter().map(|c| format!("{c}a{c} {c}")).collect::<String>());
    }
}

#[test]
fn verifying_says_where_a_table_is_wrong() {
    let pair = Pair::new(&tiny());
    let checked = warmpath_tokenizer::verify(&pair.table, &["extra".into()], |t| pair.library(t));
    assert!(checked.expect("a sound table") > 1000);
    let wrong = warmpath_tokenizer::verify(&pair.table, &[], |text| {
        let mut ids = pair.library(text);
        if let Some(id) = ids.get_mut(2) {
            *id += 1;
        }
        ids
    });
    assert_eq!(wrong.expect_err("a difference").at, 2);
}

fn text() -> impl Strategy<Value = String> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_text_agrees(texts in prop::collection::vec(text(), 6)) {
        thread_local! {
            static PAIRS: Vec<Pair> = families()
                .into_iter()
                .chain(spaces())
                .flat_map(|(_, json)| [Pair::new(&json), Pair::new(&with_added(json, FLAGS))])
                .collect();
        }
        PAIRS.with(|pairs| {
            for pair in pairs {
                for text in &texts {
                    prop_assert_eq!(pair.table(text), pair.library(text), "on {:?}", text);
                }
            }
            Ok(())
        })?;
    }
}
