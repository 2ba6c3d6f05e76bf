use std::sync::Arc;

use super::*;
use crate::engine::Adapter;

// Payloads recorded from vLLM 0.32.0 and 0.23.0.
const REMOVED_AND_STORED: &str = "\
    93cb41dac002b29dc17a9284a474797065ac426c6f636b52656d6f766564ac626c6f636b5f6861736865\
    7391cf044b1979183a7337a66d656469756da3475055a967726f75705f696478008ba474797065ab426c\
    6f636b53746f726564ac626c6f636b5f68617368657391cf78e27496d90c5f41b1706172656e745f626c\
    6f636b5f68617368cf08b9c99075bf0c50a9746f6b656e5f696473dc0020cd02dbcd091acd0e2ecd104a\
    cd01aacd072dcd01e90dcd01f6cd1fb3cd12a7cd0a9dcd01c3cd0878cd0dcdcd020ecd0187cd02d4cd0b\
    efcd046ccd04150dcd08c4cd0d0acd0240cd038bcd0ac4cd104acd01aacd0193cd0572cd0d0aaa626c6f\
    636b5f73697a6520a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c0aa6578\
    7472615f6b65797391c0a967726f75705f69647800b26b765f63616368655f737065635f6b696e64ae66\
    756c6c5f617474656e74696f6e00\
";

const SESSION: &str = "\
    93cb41dac00295758750918ca474797065ab426c6f636b53746f726564ac626c6f636b5f686173686573\
    91cf1ff9e2759694e5b9b1706172656e745f626c6f636b5f68617368cf0e89dd069b914d3ca9746f6b65\
    6e5f696473dc0020cd0b5acd0187cd0395cd1400cd09e956cd05dacd0123cd01cccd0111cd106fcd0163\
    0dcd1fffccc6cd1ffecd0136cd0172cd0aa3ccc6cd0551cd17e7cd0fcccd17e7cd0fcccd17e7cd0fcccd\
    17e7cd0fcccd17e7cd0fcccd17e7aa626c6f636b5f73697a6520a76c6f72615f6964c0a66d656469756d\
    a3475055a96c6f72615f6e616d65c0aa65787472615f6b65797391c0a967726f75705f69647800b26b76\
    5f63616368655f737065635f6b696e64ae66756c6c5f617474656e74696f6eaa73657373696f6e5f6964\
    a6736573732d3100\
";

const ARRAYS: &str = "\
    93cb41dac003d9287ecd919cab426c6f636b53746f72656491cf7c1e0ab92692b367c0dc0020cd1ffecd\
    1ed4ccc638cd0267cd026bcd010dcd06a2cd097ecd01d2cd0172cd0aa30dcd1fffccc6cd1ffecd05d1cc\
    c6cd0e48cd094bcd138dcd07c819cd0123cd18bccd18accd05eecd0367cd042b0dcd1fffccc620c0a347\
    5055c091c000ae66756c6c5f617474656e74696f6ec000\
";

fn recorded(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn encoder(layout: EventLayout) -> Encoder {
    Encoder { layout: layout.layout(), byte_hashes: false, block_size: 32, rank: 0 }
}

/// The clock of a recorded batch.
fn seconds(payload: &[u8]) -> f64 {
    f64::from_be_bytes(payload[2..10].try_into().expect("8 bytes"))
}

/// Tokens of the recorded arrays: minimal integers up to 16 bits behind the marker.
fn tokens(payload: &[u8]) -> Vec<u32> {
    let marker = [0xdc, 0, 32];
    let at = payload.windows(3).position(|bytes| bytes == marker).expect("32 tokens");
    let mut rest = payload[at + 3..].iter().map(|&byte| u32::from(byte));
    let mut next = || rest.next().expect("more bytes");
    (0..32)
        .map(|_| match next() {
            0xcd => next() << 8 | next(),
            0xcc => next(),
            small => small,
        })
        .collect()
}

#[test]
fn maps_are_those_of_vllm_0_32() {
    let payload = recorded(REMOVED_AND_STORED);
    let events = [
        Event::Removed { hash: 0x044b_1979_183a_7337 },
        Event::Stored {
            hashes: vec![0x78e2_7496_d90c_5f41],
            parent: Some(0x08b9_c990_75bf_0c50),
            tokens: tokens(&payload),
            first: false,
            scope: Arc::default(),
        },
    ];
    assert_eq!(encoder(EventLayout::Map).batch(seconds(&payload), &events), payload);

    let payload = recorded(SESSION);
    let scope = Scope { session: Some("sess-1".into()), ..Scope::default() };
    let events = [Event::Stored {
        hashes: vec![0x1ff9_e275_9694_e5b9],
        parent: Some(0x0e89_dd06_9b91_4d3c),
        tokens: tokens(&payload),
        first: false,
        scope: Arc::new(scope),
    }];
    assert_eq!(encoder(EventLayout::Map).batch(seconds(&payload), &events), payload);
}

#[test]
fn arrays_of_12_are_those_of_vllm_0_23() {
    let payload = recorded(ARRAYS);
    let events = [Event::Stored {
        hashes: vec![0x7c1e_0ab9_2692_b367],
        parent: None,
        tokens: tokens(&payload),
        first: true,
        scope: Arc::default(),
    }];
    assert_eq!(encoder(EventLayout::Array022).batch(seconds(&payload), &events), payload);
}

fn salted() -> [Event; 3] {
    let scope = Scope {
        adapter: Some(Adapter { id: 3, name: "poet".into() }),
        cache_salt: Some("salt".into()),
        session: Some("unseen".into()),
    };
    let stored = Event::Stored {
        hashes: vec![u64::MAX, 5],
        parent: None,
        tokens: vec![1, 2, 3, 4],
        first: true,
        scope: Arc::new(scope),
    };
    [Event::Cleared, stored, Event::Removed { hash: 5 }]
}

#[test]
fn every_array_layout_has_the_fields_of_its_release() {
    let full = serde_json::json!([
        "BlockStored",
        [u64::MAX, 5],
        null,
        [1, 2, 3, 4],
        2,
        3,
        "GPU",
        "poet",
        [["poet", "salt"], ["poet"]],
        0,
        "full_attention",
        null
    ]);
    let removed = serde_json::json!(["BlockRemoved", [5], "GPU", 0]);
    let rows = [
        (EventLayout::Array022, 12, 4, true),
        (EventLayout::Array020, 10, 4, true),
        (EventLayout::Array017, 9, 3, true),
        (EventLayout::Array014, 8, 3, true),
        (EventLayout::Array0102, 7, 3, true),
        (EventLayout::Array010, 6, 2, true),
        (EventLayout::Array009, 6, 2, false),
    ];
    for (layout, stored_len, removed_len, rank) in rows {
        let encoder = Encoder { block_size: 2, rank: 1, ..encoder(layout) };
        let payload = encoder.batch(1.5, &salted());
        let mut stored = full.as_array().expect("array")[..stored_len].to_vec();
        if encoder.layout.signed {
            stored[1] = serde_json::json!([-1, 5]);
        }
        let removed = &removed.as_array().expect("array")[..removed_len];
        let mut batch = vec![serde_json::json!(1.5)];
        batch.push(serde_json::json!([["AllBlocksCleared"], stored, removed]));
        batch.extend(rank.then(|| serde_json::json!(1)));
        let decoded: serde_json::Value = rmp_serde::from_slice(&payload).expect("MessagePack");
        assert_eq!(decoded, serde_json::Value::Array(batch), "{layout:?}");
    }
}

#[test]
fn byte_hashes_are_32_bytes_that_end_with_the_integer() {
    let encoder = Encoder { byte_hashes: true, ..encoder(EventLayout::Array022) };
    let payload = encoder.batch(0.0, &[Event::Removed { hash: 0x0102_0304_0506_0708 }]);
    let at = payload.windows(2).position(|bytes| bytes == [0xc4, 32]).expect("32 bytes");
    assert_eq!(payload[at + 2 + 24..at + 2 + 32], [1, 2, 3, 4, 5, 6, 7, 8]);
}
