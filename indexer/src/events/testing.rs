//! Payloads by hand, for the tests of this module.

use rmp::encode::*;

/// A MessagePack value.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Nil,
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'static str),
    Bin(Vec<u8>),
    List(Vec<Item>),
    Map(Vec<(&'static str, Item)>),
}
use Item::{Bin, Float, Int, List, Map, Nil, Text, Uint};

fn write(item: &Item, out: &mut Vec<u8>) {
    match item {
        Nil => write_nil(out).unwrap(),
        Int(number) => drop(write_sint(out, *number).unwrap()),
        Uint(number) => drop(write_uint(out, *number).unwrap()),
        Float(number) => write_f64(out, *number).unwrap(),
        Text(text) => write_str(out, text).unwrap(),
        Bin(bytes) => write_bin(out, bytes).unwrap(),
        List(items) => {
            write_array_len(out, items.len() as u32).unwrap();
            items.iter().for_each(|item| write(item, out));
        }
        Map(entries) => {
            write_map_len(out, entries.len() as u32).unwrap();
            for (key, value) in entries {
                write_str(out, key).unwrap();
                write(value, out);
            }
        }
    }
}

pub(super) fn bytes(item: &Item) -> Vec<u8> {
    let mut out = Vec::new();
    write(item, &mut out);
    out
}

pub(super) fn batch(events: Vec<Item>) -> Vec<u8> {
    batch_at(1.5, 0, events)
}

pub(super) fn batch_at(time: f64, rank: i64, events: Vec<Item>) -> Vec<u8> {
    bytes(&List(vec![Float(time), List(events), Int(rank)]))
}

pub(super) fn numbers(numbers: impl IntoIterator<Item = u64>) -> Item {
    List(numbers.into_iter().map(Uint).collect())
}

/// A `BlockStored` of two-token blocks: block `n` has the tokens 2n and 2n + 1 and
/// the engine hash n.
pub(super) fn stored(parent: Option<u64>, blocks: &[u64]) -> Vec<(&'static str, Item)> {
    let tokens = blocks.iter().flat_map(|block| [2 * block, 2 * block + 1]);
    vec![
        ("type", Text("BlockStored")),
        ("block_hashes", numbers(blocks.iter().copied())),
        ("parent_block_hash", parent.map_or(Nil, Uint)),
        ("token_ids", numbers(tokens)),
        ("block_size", Int(2)),
        ("medium", Text("GPU")),
    ]
}

pub(super) fn removed(blocks: &[u64]) -> Vec<(&'static str, Item)> {
    vec![("type", Text("BlockRemoved")), ("block_hashes", numbers(blocks.iter().copied()))]
}

/// The local hashes of such blocks.
pub(super) fn local(blocks: &[u64], seed: u64) -> Vec<u64> {
    let tokens: Vec<u32> =
        blocks.iter().flat_map(|&block| [2 * block as u32, 2 * block as u32 + 1]).collect();
    warmpath_blocks::local_hashes(&tokens, 2, seed)
}

pub(super) fn source() -> super::Source {
    super::Source {
        worker_name: "test".to_owned(),
        holder: super::Holder { worker: warmpath_radix::WorkerId(0), rank: 0 },
        ranks: 1,
        endpoint: String::new(),
        replay: None,
        bind: false,
        topic: String::new(),
        block_size: None,
    }
}

/// A recording of a real engine.
pub(super) fn capture(name: &str) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    folder.join(format!("{name}.jsonl"))
}
