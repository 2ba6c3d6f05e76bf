//! Tables against Hugging Face's library.
#![cfg(not(target_family = "wasm"))]

mod support;

use proptest::prelude::*;
use support::models::{FLAGS, families, repetitive, spaces, text};
use support::{Pair, tiny, with_added};

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_text_agrees(
        texts in prop::collection::vec(prop_oneof![3 => text().boxed(), 1 => repetitive().boxed()], 6)
    ) {
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
