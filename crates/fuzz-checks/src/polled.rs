//! Answers of an engine that is asked for its events, into the index.
//!
//! Input: flags, then the answers, each ended by a line break. However the events lie
//! in answers, the same comes of them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use warmpath_indexer::events::{Drain, PollSource, RankSnapshot, RankStatus};
use warmpath_radix::{Holder, Index, WorkerId};

use crate::bytes::Bytes;

const MOST_ANSWERS: usize = 64;

struct Stage {
    drain: Drain,
    index: Arc<Index>,
    ranks: Vec<(Holder, Arc<RankStatus>)>,
}

impl Stage {
    fn new(flags: u8) -> Self {
        let ranks = if flags & 1 == 0 { 1 } else { 3 };
        let rank = |rank| (Holder { worker: WorkerId(0), rank }, Arc::new(RankStatus::new()));
        let source = PollSource {
            worker_name: "fuzz".to_owned(),
            ranks: (0..ranks).map(rank).collect(),
            url: String::new(),
            every: Duration::ZERO,
            timeout: Duration::ZERO,
            block_size: (flags & 2 != 0).then_some(4),
        };
        let index = Arc::new(Index::new());
        let drain = Drain::new(&source, index.clone());
        Self { drain, index, ranks: source.ranks }
    }

    /// What is left of the events: the index's size, and the counts of each rank.
    fn outcome(&self) -> (usize, usize, Vec<RankSnapshot>) {
        let stats = self.index.stats();
        // How often they came, and when, is what differs.
        let counts = |(_, status): &(Holder, Arc<RankStatus>)| RankSnapshot {
            batches: 0,
            last_event: None,
            degradations: 0,
            useless: None,
            ..status.snapshot()
        };
        (stats.holder_blocks, stats.aside, self.ranks.iter().map(counts).collect())
    }
}

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let flags = bytes.byte();
    let (mut whole, mut single) = (Stage::new(flags), Stage::new(flags));
    for answer in bytes.0.split(|&byte| byte == b'\n').take(MOST_ANSWERS) {
        let elements = serde_json::from_slice::<Vec<&RawValue>>(answer);
        let offered = whole.drain.offer(answer);
        assert_eq!(offered.is_ok(), elements.is_ok(), "an answer is a list of events");
        for element in elements.unwrap_or_default() {
            let alone = format!("[{}]", element.get());
            single.drain.offer(alone.as_bytes()).expect("a list of one");
        }
        whole.index.audit().expect("the index adds up");
    }
    assert_eq!(whole.outcome(), single.outcome());
}
