//! warmpath-radix.

use std::sync::atomic::{AtomicBool, Ordering};

use warmpath_radix::{Block, EngineHash, Holder, Index, Matches, Tier, WorkerId};

use crate::cache::Step;
use crate::engine::Engine;

pub(crate) struct Ours(Index);

impl Ours {
    pub(crate) fn new() -> Self {
        Self(Index::new())
    }
}

/// The events of one step.
pub(crate) struct Event {
    holder: Holder,
    parent: Option<EngineHash>,
    stored: Vec<Block>,
    removed: Vec<EngineHash>,
}

impl Engine for Ours {
    type Query = Vec<u64>;
    type Found = Matches;
    type Events = Vec<Event>;

    fn query(local: &[u64]) -> Vec<u64> {
        local.to_vec()
    }

    fn events(steps: &[Step]) -> Vec<Event> {
        let event = |step: &Step| Event {
            holder: Holder { worker: WorkerId(step.worker), rank: 0 },
            parent: step.parent.map(EngineHash),
            stored: step
                .stored
                .iter()
                .map(|block| Block { local: block.local, engine: EngineHash(block.engine) })
                .collect(),
            removed: step.removed.iter().copied().map(EngineHash).collect(),
        };
        steps.iter().map(event).collect()
    }

    fn find(&self, query: &mut Vec<u64>) -> Matches {
        let mut matches = Matches::new();
        self.0.find(query, |_| false, &mut matches);
        matches
    }

    fn answer(found: &Matches) -> Vec<(u32, u32)> {
        let mut answer: Vec<_> =
            found.iter().map(|found| (found.holder.worker.0, found.blocks)).collect();
        answer.sort_unstable();
        answer
    }

    fn apply(&self, events: Vec<Event>) {
        for event in events {
            if !event.stored.is_empty() {
                self.0
                    .store(event.holder, Tier::Device, event.parent, 0, &event.stored)
                    .expect("there is no ceiling");
            }
            if !event.removed.is_empty() {
                self.0.remove(event.holder, Tier::Device, &event.removed);
            }
        }
    }

    fn churn(&self, steps: &[Step], done: &AtomicBool) -> usize {
        let events: Vec<(Event, Vec<EngineHash>)> = Self::events(steps)
            .into_iter()
            .map(|event| {
                let names = event.stored.iter().map(|block| block.engine).collect();
                (event, names)
            })
            .collect();
        let mut blocks = 0;
        while !done.load(Ordering::Relaxed) {
            for (event, names) in &events {
                self.0.remove(event.holder, Tier::Device, names);
                self.0
                    .store(event.holder, Tier::Device, event.parent, 0, &event.stored)
                    .expect("there is no ceiling");
                blocks += 2 * names.len();
            }
        }
        blocks
    }
}
