//! The index: the tree, what each holder has, and who waits for whom.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::held::Held;
use crate::tree::Tree;
use crate::{
    Block, Dropped, EngineHash, Holder, Match, Removed, Stats, StoreError, Stored, WorkerId,
};

/// Which holder has which leading blocks. Shared by reference.
///
/// One index serves all models and block sizes: a worker serves one base model,
/// and hashes of different block sizes do not meet.
///
/// Events of one holder wait for each other, events of several do not, save for the
/// moment in which each changes the tree. Only for such moments do readers wait.
#[derive(Debug, Default)]
pub struct Index {
    // Locks are taken in the order in which they stand here.
    /// Ordered, so that the ranks of one worker are one range. A holder with nothing
    /// has no entry. Written only when holders come and go.
    holders: RwLock<BTreeMap<Holder, Mutex<Held>>>,
    tree: RwLock<Tree>,
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that `holder` stored this chain of blocks behind `parent`, or from
    /// the start of a prompt where there is none.
    ///
    /// `seed` is the hash seed of the local hashes. An error changes nothing.
    pub fn store(
        &self,
        holder: Holder,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
    ) -> Result<Stored, StoreError> {
        if let Some(held) = self.holders.read().get(&holder) {
            return held.lock().store(holder, parent, seed, blocks, &self.tree);
        }
        if parent.is_some() {
            return Err(StoreError::UnknownParent);
        }
        if blocks.is_empty() {
            return Ok(Stored::default());
        }
        let mut holders = self.holders.write();
        let held = holders.entry(holder).or_default().get_mut();
        held.store(holder, parent, seed, blocks, &self.tree)
    }

    /// The seed that a held block was stored under.
    ///
    /// Engines name the cache salt with the first block of a prompt only; the
    /// chains behind it inherit it by asking for their parent's.
    pub fn seed(&self, holder: Holder, engine: &EngineHash) -> Option<u64> {
        self.holders.read().get(&holder)?.lock().seed(engine, &self.tree)
    }

    /// Records that `holder` dropped one copy of a block.
    pub fn remove(&self, holder: Holder, engine: &EngineHash) -> Removed {
        self.lose(holder, |held| held.remove(holder, engine, &self.tree))
            .unwrap_or(Removed::Unknown)
    }

    /// Records that `holder` dropped one copy of each of these blocks.
    ///
    /// The same as removing one by one, and cheaper: engines evict many at once.
    pub fn remove_many(&self, holder: Holder, engines: &[EngineHash]) -> Dropped {
        self.lose(holder, |held| held.remove_many(holder, engines, &self.tree))
            .unwrap_or(Dropped { unknown: engines.len(), ..Dropped::default() })
    }

    /// Forgets everything that `holder` has; how many blocks that was.
    pub fn clear(&self, holder: Holder) -> usize {
        self.lose(holder, |held| held.clear(holder, &self.tree)).unwrap_or(0)
    }

    /// Forgets every rank of `worker`; how many blocks that was.
    ///
    /// Costs in proportion to what the worker held, not to the index.
    pub fn remove_worker(&self, worker: WorkerId) -> usize {
        let (first, last) = (Holder { worker, rank: 0 }, Holder { worker, rank: u32::MAX });
        let ranks: Vec<Holder> =
            self.holders.read().range(first..=last).map(|(&holder, _)| holder).collect();
        ranks.into_iter().map(|holder| self.clear(holder)).sum()
    }

    /// Every holder of at least the first of these blocks, and how many leading
    /// blocks each has; ordered by holder.
    pub fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        self.tree.read().find_matches(local)
    }

    /// How many distinct blocks `holder` has.
    pub fn blocks(&self, holder: Holder) -> usize {
        self.holders.read().get(&holder).map_or(0, |held| held.lock().blocks())
    }

    /// Sizes, from counters: cheap.
    pub fn stats(&self) -> Stats {
        let holders = self.holders.read();
        let counts = holders.values().map(|held| held.lock().blocks());
        let (holders, holder_blocks) = counts
            .filter(|&blocks| blocks > 0)
            .fold((0, 0), |(holders, sum), blocks| (holders + 1, sum + blocks));
        Stats { nodes: self.tree.read().len(), holder_blocks, holders }
    }

    /// Recomputes every count and link from the others; the first contradiction.
    ///
    /// Stops all events meanwhile, and costs in proportion to the whole index.
    pub fn audit(&self) -> Result<(), String> {
        let mut holders = self.holders.write();
        let tree = self.tree.read();
        let mut blocks = HashMap::new();
        for (&holder, held) in holders.iter_mut() {
            let held = held.get_mut();
            if held.is_empty() {
                return Err(format!("{holder:?} has nothing but is listed"));
            }
            held.audit(holder, &tree, &mut blocks)?;
        }
        for id in tree.reachable()? {
            for cover in &tree.node(id).covers {
                let bound = blocks.remove(&(id, cover.holder)).unwrap_or(0);
                let held = cover.held().count();
                if bound as usize != held {
                    return Err(format!(
                        "node {id} has {held} blocks of {:?}, which binds {bound}",
                        cover.holder
                    ));
                }
            }
        }
        Ok(())
    }

    /// Does what may take a holder's last block, and then strikes it off the list.
    fn lose<T>(&self, holder: Holder, how: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let (done, empty) = {
            let holders = self.holders.read();
            let mut held = holders.get(&holder)?.lock();
            (how(&mut held), held.is_empty())
        };
        if empty {
            let mut holders = self.holders.write();
            // It may have stored again by now.
            if holders.get_mut(&holder).is_some_and(|held| held.get_mut().is_empty()) {
                holders.remove(&holder);
            }
        }
        Some(done)
    }
}
