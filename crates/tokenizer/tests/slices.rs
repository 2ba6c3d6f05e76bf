//! A text cut into segments, and a segment encoded in slices, give what the whole gives.
#![cfg(not(target_family = "wasm"))]

mod support;

use proptest::prelude::*;
use support::models::{FLAGS, families, spaces, text};
use support::{Pair, with_added};
use warmpath_tokenizer::{Progress, Scratch, Segment, Step, Table};

/// The ids of a text segment on its own, by budgets that come round.
fn in_slices(table: &Table, text: &str, first: bool, budgets: &[usize]) -> Vec<u32> {
    let (mut scratch, mut progress) = (Scratch::default(), Progress::new(first));
    let mut ids = Vec::new();
    for budget in budgets.iter().cycle() {
        if table.encode_some(&mut scratch, &mut progress, text, *budget, &mut ids) == Step::Done {
            break;
        }
    }
    let done = ids.len();
    assert_eq!(
        table.encode_some(&mut scratch, &mut progress, text, 1, &mut ids),
        Step::Done,
        "done stays done"
    );
    assert_eq!(ids.len(), done);
    ids
}

fn pairs() -> Vec<Pair> {
    let models = families().into_iter().chain(spaces());
    models.flat_map(|(_, json)| [Pair::new(&json), Pair::new(&with_added(json, FLAGS))]).collect()
}

thread_local! {
    static PAIRS: Vec<Pair> = pairs();
}

#[test]
fn long_words_are_encoded_in_slices() {
    let texts = [
        "a".repeat(20_000),
        "\u{301}".repeat(5_000),
        "xy zq".repeat(1_000),
        " ".repeat(20_000),
        letters(5_000) + " end",
        (0..3_000).filter_map(|i| char::from_u32(0x4E00 + i * 7 % 5000)).collect(),
    ];
    PAIRS.with(|pairs| {
        for pair in pairs {
            for text in &texts {
                let table = pair.table.table();
                let whole = in_slices(table, text, true, &[usize::MAX]);
                let name = text.chars().take(9).collect::<String>();
                assert!(whole == pair.library(text), "on {name}");
                assert!(in_slices(table, text, true, &[1]) == whole, "on {name}");
                assert!(in_slices(table, text, true, &[5000, 1, 300]) == whole, "on {name}");
            }
        }
    });
}

fn letters(count: u64) -> String {
    (0..count).map(|i| char::from(b'a' + (i * i / 7 % 26) as u8)).collect()
}

#[test]
fn a_long_word_takes_many_slices() {
    let pair = Pair::new(&support::tiny());
    let text = letters(1 << 16);
    let mut progress = Progress::new(true);
    let mut ids = Vec::new();
    let mut slices = 1;
    while pair.table.encode_some(&mut progress, &text, 4096, &mut ids) == Step::More {
        slices += 1;
    }
    assert!((14..=40).contains(&slices), "{slices}");
    assert!(ids == pair.library(&text));
}

#[test]
fn segments_say_what_stands_where() {
    let pair = Pair::new(&with_added(support::tiny(), &[("<both>", "lr"), ("ab", "w")]));
    let text = "x <both>\n\nabc ab<both>";
    let id = |content: &str| pair.library.token_to_id(content).expect("a token");
    let segments: Vec<Segment> = pair.table.table().segments(text).collect();
    let plain = |start, end| Segment::Text { start, end, first: false };
    let added = |content, start, end| Segment::Added { id: id(content), start, end };
    assert_eq!(
        segments,
        [
            plain(0, 1),
            added("<both>", 1, 10),
            plain(10, 14),
            added("ab", 14, 16),
            added("<both>", 16, 22),
        ]
    );
    assert_eq!(pair.table.table().segments("").next(), None);
}

#[test]
fn only_models_that_tell_them_apart_have_first_segments() {
    for (name, json) in families().into_iter().chain(spaces()) {
        let pair = Pair::new(&json);
        let segment = pair.table.table().segments("a").next();
        let first = name == "metaspace first";
        assert_eq!(segment, Some(Segment::Text { start: 0, end: 1, first }), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn segments_and_slices_give_the_ids_of_the_whole(
        texts in prop::collection::vec(text(), 4),
        budgets in prop::collection::vec(0..80usize, 1..6),
    ) {
        PAIRS.with(|pairs| {
            for pair in pairs {
                let table = pair.table.table();
                for text in &texts {
                    let (mut ids, mut end) = (Vec::new(), 0);
                    for segment in table.segments(text) {
                        let start = match segment {
                            Segment::Added { id, start, .. } => {
                                ids.push(id);
                                start
                            }
                            Segment::Text { start, end, first } => {
                                ids.extend(in_slices(table, &text[start..end], first, &budgets));
                                start
                            }
                        };
                        prop_assert!(start <= end, "no gap");
                        end = match segment {
                            Segment::Added { end, .. } | Segment::Text { end, .. } => end,
                        };
                    }
                    prop_assert_eq!(end, text.len());
                    prop_assert_eq!(ids, pair.table(text), "on {:?}", text);
                }
            }
            Ok(())
        })?;
    }
}
