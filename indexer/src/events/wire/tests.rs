//! All layouts, and whatever else may come over a socket.

use super::*;
use crate::events::testing::Item::{self, Bin, Float, Int, List, Map, Nil, Text, Uint};
use crate::events::testing::{batch, bytes, numbers};
use proptest::prelude::*;
use warmpath_radix::EngineHash;

fn decode(payload: &[u8]) -> Vec<Result<Event<'_>, Reject>> {
    Batch::decode(payload).unwrap().events().collect()
}

fn one(payload: &[u8]) -> Stored<'_> {
    match decode(payload).remove(0) {
        Ok(Event::Stored(stored)) => stored,
        other => panic!("{other:?}"),
    }
}

/// A full array of the newest release that wrote arrays, tag first.
fn full_array() -> Vec<Item> {
    vec![
        Text("BlockStored"),
        numbers([7, 8]),
        Uint(6),
        numbers(0..4),
        Int(2),
        Int(3),
        Text("GPU"),
        Text("lora"),
        List(vec![Nil, List(vec![Text("lora"), List(vec![Text("image"), Int(-4)])])]),
        Int(1),
        Text("full_attention"),
        Int(4096),
    ]
}

#[test]
fn arrays_of_every_release_are_read_as_far_as_they_go() {
    for length in 5..=12 {
        let payload = batch(vec![List(full_array()[..length].to_vec())]);
        let stored = one(&payload);
        assert_eq!(stored.hashes, [EngineHash(7), EngineHash(8)]);
        assert_eq!(stored.parent, Some(EngineHash(6)));
        assert_eq!((stored.tokens.as_slice(), stored.block_size), (&[0, 1, 2, 3][..], 2));
        assert_eq!(stored.has_adapter_id, length > 5);
        assert_eq!(stored.scope.medium, (length > 6).then_some("GPU"));
        assert_eq!(stored.adapter, (length > 7).then_some("lora"));
        assert_eq!(stored.extra_keys.len(), if length > 8 { 2 } else { 0 });
        assert_eq!(stored.scope.group, (length > 9).then_some(1));
        assert_eq!(stored.scope.kind, (length > 10).then_some("full_attention"));
    }
    let removed = List(vec![Text("BlockRemoved"), numbers([7]), Text("GPU"), Int(2)]);
    let payload = batch(vec![removed, List(vec![Text("AllBlocksCleared")])]);
    let scope = Scope { medium: Some("GPU"), group: Some(2), ..Scope::default() };
    let hashes = vec![EngineHash(7)];
    assert_eq!(decode(&payload), [Ok(Event::Removed { scope, hashes }), Ok(Event::Cleared)]);
}

#[test]
fn surplus_elements_and_unknown_keys_are_passed_over() {
    let mut array = full_array();
    array.extend([Text("LOCAL"), Nil, Map(vec![("new", List(vec![Nil]))]), Int(1)]);
    let map = Map(vec![
        ("new", Map(vec![("deep", List(vec![Nil, Float(0.5)]))])),
        ("block_hashes", numbers([7])),
        ("type", Text("BlockRemoved")),
    ]);
    let payload = bytes(&List(vec![
        Uint(12),
        List(vec![List(array), map]),
        Int(1),
        Text("a fourth element"),
    ]));
    let decoded = Batch::decode(&payload).unwrap();
    assert_eq!((decoded.timestamp, decoded.rank), (Some(12.0), Some(1)));
    let events: Vec<_> = decoded.events().collect();
    assert!(matches!(&events[0], Ok(Event::Stored(s)) if s.scope.locality == Some("LOCAL")));
    assert!(matches!(&events[1], Ok(Event::Removed { .. })));
}

#[test]
fn maps_say_the_same_in_any_order() {
    let payload = batch(vec![Map(vec![
        ("token_ids", numbers([1, 2])),
        ("medium", Text("")),
        ("block_size", Int(2)),
        ("parent_block_hash", Nil),
        ("cache_salt", Text("tenant")),
        ("block_hashes", List(vec![Int(-1)])),
        (
            "block_mm_infos",
            List(vec![Map(vec![(
                "mm_objects",
                List(vec![Map(vec![("offsets", Nil), ("mm_hash", Uint(9))])]),
            )])]),
        ),
        ("type", Text("BlockStored")),
    ])]);
    let stored = one(&payload);
    assert_eq!(stored.hashes, [EngineHash(u64::MAX)]);
    assert_eq!((stored.parent, stored.cache_salt), (None, Some("tenant")));
    assert_eq!(stored.scope, Scope::default());
    assert_eq!(stored.media, [[9]]);
    assert!(!stored.has_adapter_id);
}

#[test]
fn sglangs_metadata_and_old_tails_are_understood() {
    let mut array = full_array();
    array[7] = Map(vec![("cache_salt", Text("tenant"))]);
    array.truncate(9);
    let info = Map(vec![("mm_objects", List(vec![Map(vec![("mm_hash", Uint(5))])]))]);
    array.extend([Text("mla_attention"), List(vec![Nil, info])]);
    let payload = batch(vec![List(array)]);
    let stored = one(&payload);
    assert_eq!((stored.adapter, stored.cache_salt), (None, Some("tenant")));
    assert_eq!(stored.scope.kind, Some("mla_attention"));
    assert_eq!(stored.media, [vec![], vec![5]]);
}

#[test]
fn batches_of_two_to_four_elements_are_read_and_others_are_not() {
    let events = || List(vec![List(vec![Text("AllBlocksCleared")])]);
    let rows = [
        (vec![Float(1.0), events()], Some(None)),
        (vec![Float(1.0), events(), Nil], Some(None)),
        (vec![Float(1.0), events(), Int(-1)], Some(Some(u64::MAX))),
        (vec![Nil, events(), Int(3), Nil], Some(Some(3))),
        (vec![Float(1.0)], None),
        (vec![Float(1.0), Nil, Int(0)], None),
    ];
    for (elements, rank) in rows {
        let payload = bytes(&List(elements));
        let decoded = Batch::decode(&payload).map(|batch| batch.rank);
        assert_eq!(decoded.ok(), rank);
    }
    assert_eq!(Batch::decode(&bytes(&Map(vec![]))).unwrap_err(), Reject::BatchLayout);
    assert_eq!(Batch::decode(&[]).unwrap_err(), Reject::BatchLayout);
}

#[test]
fn a_broken_event_costs_itself_only() {
    let stored = |field: usize, value: Item| {
        let mut array = full_array();
        array[field] = value;
        List(array)
    };
    let broken = [
        (List(vec![Text("BlockMoved"), Nil]), Reject::UnknownEvent),
        (Map(vec![("type", Text("New")), ("block_hashes", numbers([1]))]), Reject::UnknownEvent),
        (Map(vec![("block_hashes", numbers([1]))]), Reject::Malformed),
        (Map(vec![("type", Text("BlockRemoved"))]), Reject::Malformed),
        (Int(5), Reject::Malformed),
        (List(vec![]), Reject::Malformed),
        (stored(1, Text("hashes")), Reject::Malformed),
        (stored(1, List(vec![Text("hash")])), Reject::BlockHash),
        (stored(1, List(vec![Bin(vec![0; 33])])), Reject::BlockHash),
        (stored(1, List(vec![Bin(vec![])])), Reject::BlockHash),
        (stored(3, List(vec![numbers([1, 2])])), Reject::TokenPairs),
        (stored(3, List(vec![Int(-1)])), Reject::Malformed),
        (stored(3, List(vec![Uint(1 << 32)])), Reject::Malformed),
        (stored(4, Nil), Reject::Malformed),
    ];
    for (event, reject) in broken {
        let payload = batch(vec![event, List(vec![Text("AllBlocksCleared")])]);
        assert_eq!(decode(&payload), [Err(reject), Ok(Event::Cleared)], "{reject}");
    }
}

#[test]
fn digests_of_any_length_to_32_are_names() {
    let mut array = full_array();
    array[1] = List(vec![Bin(vec![1; 32]), Bin(vec![2; 16])]);
    let payload = batch(vec![List(array)]);
    let expected = [EngineHash::from_bytes(&[1; 32]), EngineHash::from_bytes(&[2; 16])];
    assert_eq!(one(&payload).hashes, expected);
}

#[test]
fn hashes_may_be_written_as_text() {
    let mut array = full_array();
    array[1] = List(vec![Text("17112937265853543453"), Text("-2"), Text("0a0b")]);
    array[2] = Text("7");
    let payload = batch(vec![List(array)]);
    let event = one(&payload);
    let digest = EngineHash::from_bytes(&[10, 11]);
    let expected = [EngineHash(17_112_937_265_853_543_453), EngineHash(u64::MAX - 1), digest];
    assert_eq!((event.parent, &event.hashes[..]), (Some(EngineHash(7)), &expected[..]));
}

#[test]
fn of_a_truncated_batch_what_came_before_counts() {
    let payload = batch(vec![
        List(vec![Text("AllBlocksCleared")]),
        List(full_array()),
        List(vec![Text("AllBlocksCleared")]),
    ]);
    let events = decode(&payload[..40]);
    assert_eq!(events, [Ok(Event::Cleared), Err(Reject::Truncated)]);
}

#[test]
fn a_forged_length_is_not_believed() {
    // An array of 2^32 - 1 hashes, of which none is there.
    let mut payload = vec![0x93, 0x00, 0x91, 0x92, 0xac];
    payload.extend(b"BlockRemoved");
    payload.extend([0xdd, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(decode(&payload), [Err(Reject::Truncated)]);
    // The same around the events, and nested as deep as the payload is long.
    assert_eq!(decode(&[0x93, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff]), [Err(Reject::Truncated)]);
    let mut deep = vec![0x93, 0x00, 0x91];
    deep.extend([0x91; 100_000]);
    assert_eq!(decode(&deep), [Err(Reject::Truncated)]);
}

#[test]
fn messages_of_other_frames_are_rejected() {
    let seq = 7u64.to_be_bytes();
    assert_eq!(frames(&[&b"topic"[..], &seq, b"payload"]), Ok((7, &b"payload"[..])));
    assert_eq!(frames(&[&seq[..], b"payload"]), Err(Reject::Frames));
    assert_eq!(frames(&[&b""[..], &seq[1..], b""]), Err(Reject::Frames));
    assert_eq!(frames::<&[u8]>(&[]), Err(Reject::Frames));
}

fn item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        Just(Nil),
        any::<i64>().prop_map(Int),
        (0u64..64).prop_map(Uint),
        any::<f64>().prop_map(Float),
        prop::sample::select(&["", "GPU", "BlockStored", "BlockRemoved", "type"][..])
            .prop_map(Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bin),
    ];
    let keys = &["type", "block_hashes", "token_ids", "block_size", "extra_keys", "other"][..];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(List),
            prop::collection::vec((prop::sample::select(keys), inner), 0..6).prop_map(Map),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(batch) = Batch::decode(&payload) {
            prop_assert!(batch.events().count() <= payload.len() + 1);
        }
    }

    #[test]
    fn no_change_to_a_batch_makes_the_decoder_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut payload = batch(vec![List(full_array()), List(full_array())]);
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        payload.truncate(cut.index(payload.len()) + 1);
        if let Ok(batch) = Batch::decode(&payload) {
            prop_assert!(batch.events().count() <= payload.len() + 1);
        }
    }

    /// Whatever well-formed value stands where an event should: the next is read.
    #[test]
    fn any_value_in_place_of_an_event_leaves_the_next(value in item()) {
        let payload = batch(vec![value, List(vec![Text("AllBlocksCleared")])]);
        let events = decode(&payload);
        prop_assert_eq!(events.len(), 2);
        prop_assert_eq!(&events[1], &Ok(Event::Cleared));
    }
}
