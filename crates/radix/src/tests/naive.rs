//! The index again, as simply as it can be said: per holder, what each engine
//! hash names, as a whole path of local hashes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Block, EngineHash, Holder, Match, Removed, StoreError, Stored, WorkerId};

struct Named {
    path: Vec<u64>,
    seed: u64,
    copies: usize,
}

#[derive(Default)]
pub(super) struct Naive {
    named: BTreeMap<Holder, BTreeMap<EngineHash, Named>>,
}

impl Naive {
    pub(super) fn store(
        &mut self,
        holder: Holder,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
    ) -> Result<Stored, StoreError> {
        let mut path = match parent {
            None => Vec::new(),
            Some(parent) => self
                .named
                .get(&holder)
                .and_then(|named| named.get(&parent))
                .ok_or(StoreError::UnknownParent)?
                .path
                .clone(),
        };
        if blocks.iter().any(|block| Some(block.engine) == parent) {
            return Err(StoreError::SelfParent);
        }
        let mut stored = Stored::default();
        for block in blocks {
            path.push(block.local);
            let named = self.named.entry(holder).or_default();
            match named.get_mut(&block.engine) {
                Some(known) if known.path == path => {
                    known.copies += 1;
                    stored.copies += 1;
                }
                _ => {
                    named.insert(block.engine, Named { path: path.clone(), seed, copies: 1 });
                    stored.new += 1;
                }
            }
        }
        Ok(stored)
    }

    pub(super) fn remove(&mut self, holder: Holder, engine: &EngineHash) -> Removed {
        let Some(named) = self.named.get_mut(&holder) else { return Removed::Unknown };
        let Some(known) = named.get_mut(engine) else { return Removed::Unknown };
        known.copies -= 1;
        if known.copies > 0 {
            return Removed::Copy;
        }
        named.remove(engine);
        self.named.retain(|_, named| !named.is_empty());
        Removed::Last
    }

    pub(super) fn clear(&mut self, holder: Holder) -> usize {
        let blocks = self.blocks(holder);
        self.named.remove(&holder);
        blocks
    }

    pub(super) fn remove_worker(&mut self, worker: WorkerId) -> usize {
        let ranks: Vec<Holder> =
            self.named.keys().copied().filter(|holder| holder.worker == worker).collect();
        ranks.into_iter().map(|holder| self.clear(holder)).sum()
    }

    pub(super) fn seed(&self, holder: Holder, engine: &EngineHash) -> Option<u64> {
        Some(self.named.get(&holder)?.get(engine)?.seed)
    }

    pub(super) fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        let leading = |named: &BTreeMap<EngineHash, Named>| {
            (1..=local.len())
                .take_while(|&depth| named.values().any(|known| known.path == local[..depth]))
                .count()
        };
        self.named
            .iter()
            .map(|(&holder, named)| Match { holder, blocks: leading(named) as u32 })
            .filter(|found| found.blocks > 0)
            .collect()
    }

    pub(super) fn blocks(&self, holder: Holder) -> usize {
        let Some(named) = self.named.get(&holder) else { return 0 };
        let mut paths: Vec<&Vec<u64>> = named.values().map(|known| &known.path).collect();
        paths.sort_unstable();
        paths.dedup();
        paths.len()
    }

    pub(super) fn holders(&self) -> usize {
        self.named.len()
    }

    /// Nodes of a tree that keeps what is held and what lies above it.
    pub(super) fn nodes(&self) -> usize {
        let held = self.named.values().flat_map(|named| named.values());
        let needed: BTreeSet<&[u64]> = held
            .flat_map(|known| (1..=known.path.len()).map(|depth| &known.path[..depth]))
            .collect();
        needed.len()
    }
}
