//! Snapshots: what is written is read again alike; damaged ones are refused, and one
//! whose checksums lie leaves an index that adds up.
//!
//! Input: the length of operations as of the check on the index, those, then patches
//! of four bytes (place and value) on the snapshot, whose checksums are then made
//! right again.

use warmpath_radix::{Index, Tier};
use xxhash_rust::xxh3::xxh3_64;

use crate::bytes::Bytes;
use crate::index::{LONGEST, holder_of, operate};

/// Magic and version.
const HEAD: usize = 8;
/// Tag, worker, rank, tier and length of a section.
const SECTION_HEAD: usize = 18;
const SECTION_TAG: u8 = 1;

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let length = usize::from(bytes.byte());
    let mut operations = Bytes(bytes.take(length));
    let index = Index::new();
    for now in 0.. {
        if operations.is_empty() {
            break;
        }
        operate(&index, &mut operations, now);
    }
    // A snapshot knows nothing of predictions.
    index.expire(u64::MAX);
    let snapshot = written(&index);
    let copy = Index::new();
    copy.restore(&snapshot[..], Some).expect("it reads what it wrote");
    copy.audit().expect("the copy adds up");
    assert_eq!(answers(&index), answers(&copy), "the copy answers alike");
    patched(snapshot, bytes);
}

fn written(index: &Index) -> Vec<u8> {
    let mut snapshot = Vec::new();
    index.snapshot(&mut snapshot).expect("memory takes anything");
    snapshot
}

/// What both have to agree on: every query of consecutive contents.
fn answers(index: &Index) -> Vec<String> {
    let query = |from: u64| {
        let locals: Vec<u64> = (from..from + LONGEST as u64).map(|local| local % 64).collect();
        let mut found = index.find_matches(&locals);
        found.sort_unstable();
        format!("{found:?}")
    };
    let blocks = |holder| Tier::ALL.map(|tier| index.blocks(holder, tier));
    let holders = (0..6).map(|holder| format!("{:?}", blocks(holder_of(holder))));
    (0..64).map(query).chain(holders).collect()
}

fn patched(mut snapshot: Vec<u8>, mut patches: Bytes<'_>) {
    if patches.is_empty() {
        return;
    }
    while !patches.is_empty() {
        let place = patches.take(3).iter().fold(0, |place, &byte| place << 8 | usize::from(byte));
        let at = HEAD + place % (snapshot.len() - HEAD);
        snapshot[at] = patches.byte();
    }
    let damaged = Index::with_ceiling(1 << 20);
    // Whether it is refused is its matter.
    let _ = damaged.restore(&snapshot[..], Some);
    damaged.audit().expect("what was read adds up");
    make_right(&mut snapshot);
    let lied_to = Index::with_ceiling(1 << 20);
    let _ = lied_to.restore(&snapshot[..], Some);
    lied_to.audit().expect("what was read adds up");
}

/// Computes the checksums anew, as far as the sections hang together.
fn make_right(snapshot: &mut [u8]) {
    let (mut at, mut checksums, mut sections) = (HEAD, Vec::new(), 0_u32);
    while let Some(length) = snapshot.get(at + SECTION_HEAD - 8..at + SECTION_HEAD)
        && snapshot[at] == SECTION_TAG
    {
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let Some(end) = usize::try_from(length)
            .ok()
            .and_then(|length| (at + SECTION_HEAD).checked_add(length))
            .filter(|end| end + 8 <= snapshot.len())
        else {
            return;
        };
        let checksum = xxh3_64(&snapshot[at..end]).to_le_bytes();
        snapshot[end..end + 8].copy_from_slice(&checksum);
        checksums.extend(checksum);
        sections += 1;
        at = end + 8;
    }
    if let Some(end) = snapshot.get_mut(at + 1..at + 13) {
        end[..4].copy_from_slice(&sections.to_le_bytes());
        end[4..].copy_from_slice(&xxh3_64(&checksums).to_le_bytes());
    }
}
