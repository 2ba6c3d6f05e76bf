//! A real vLLM 0.32 with 23 usable blocks of 32 tokens, one request after another.
//!
//! Hashes are numbered in order of appearance; the engine here must publish
//! the same batches of events under any consistent renaming.

use hashbrown::HashMap;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Recording {
    block_size: usize,
    num_blocks: usize,
    max_num_batched_tokens: usize,
    rounds: Vec<Round>,
}

#[derive(Deserialize)]
struct Round {
    note: String,
    prompt: Vec<u32>,
    answer: Vec<u32>,
    cached: usize,
    batches: Vec<Vec<Recorded>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase", untagged)]
enum Recorded {
    Stored { stored: Vec<u64>, parent: Option<u64> },
    Removed { removed: Vec<u64> },
}

/// Our hashes by the recording's names.
#[derive(Default)]
struct Names(HashMap<u64, u64>);

impl Names {
    fn of(&mut self, hash: u64) -> u64 {
        let next = self.0.len() as u64;
        *self.0.entry(hash).or_insert(next)
    }

    fn event(&mut self, event: &Event) -> Recorded {
        match event {
            Event::Stored { hashes, parent, .. } => Recorded::Stored {
                stored: hashes.iter().map(|&hash| self.of(hash)).collect(),
                parent: parent.map(|hash| self.of(hash)),
            },
            Event::Removed { hash } => Recorded::Removed { removed: vec![self.of(*hash)] },
            Event::Cleared | Event::Partial { .. } => panic!("nobody asked for it"),
        }
    }
}

#[test]
fn evictions_and_copies_come_exactly_as_a_real_engine_published_them() {
    let recording: Recording =
        serde_json::from_str(include_str!("eviction.json")).expect("the recording is JSON");
    let mut engine = Engine::new(Config {
        block_size: recording.block_size,
        num_blocks: recording.num_blocks,
        max_num_batched_tokens: recording.max_num_batched_tokens,
        ..config()
    });
    let mut names = Names::default();
    for (id, round) in (0..).zip(recording.rounds) {
        let request = Request { answer: round.answer, ..request(id, round.prompt, 1) };
        let (batches, cached) = answer(&mut engine, request);
        let batches: Vec<Vec<Recorded>> = batches
            .iter()
            .map(|batch| batch.iter().map(|event| names.event(event)).collect())
            .collect();
        assert_eq!(batches, round.batches, "{}", round.note);
        assert_eq!(cached, round.cached, "{}", round.note);
    }
}
