//! Messages of an event stream, through decoder and sequence into the index.
//!
//! Input: flags, then messages, each a step of the sequence number, two bytes of
//! length, and the payload.

use std::sync::Arc;

use warmpath_indexer::events::{Applier, RankStatus, Source, Verdict};
use warmpath_radix::{Holder, Index, WorkerId};

use crate::bytes::Bytes;

const MOST_MESSAGES: usize = 64;

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let flags = bytes.byte();
    let source = Source {
        worker_name: "fuzz".to_owned(),
        holder: Holder { worker: WorkerId(0), rank: 0 },
        ranks: if flags & 1 == 0 { 1 } else { 3 },
        endpoint: String::new(),
        replay: None,
        bind: false,
        topic: String::new(),
        block_size: (flags & 2 != 0).then_some(16),
    };
    let (index, status) = (Arc::new(Index::new()), Arc::new(RankStatus::default()));
    let mut applier = Applier::new(&source, index.clone(), status.clone());
    let mut seq = 0_u64;
    for _ in 0..MOST_MESSAGES {
        if bytes.is_empty() {
            break;
        }
        // Mostly the next one; sometimes a gap, a repetition, a restart.
        seq = match bytes.byte() {
            step @ 1..=5 => seq.wrapping_add(u64::from(step)),
            6 => 0,
            7 => u64::MAX,
            8 => seq,
            _ => seq.wrapping_add(1),
        };
        let length = usize::from(bytes.byte()) << 8 | usize::from(bytes.byte());
        let payload = bytes.take(length);
        match applier.offer(seq, payload) {
            Verdict::Applied | Verdict::Duplicate => {}
            Verdict::Gap { from, until } => {
                assert!(from < until && until == seq, "{from} to {until} before {seq}");
                applier.apply_after_loss(seq, payload);
            }
            Verdict::Restarted => {
                assert_eq!(index.stats().holder_blocks, 0, "a restart forgets everything");
                applier.apply_after_loss(seq, payload);
            }
        }
        index.audit().expect("the index adds up");
    }
}
