//! The index: per holder a map of engine hashes, all into one tree.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::RwLock;

use crate::tree::{NodeId, ROOT, Tree};
use crate::{Block, EngineHash, Holder, Match, Removed, Stats, StoreError, Stored, WorkerId};

/// Which holder has which leading blocks. Shared by reference; every method locks.
///
/// One index serves all models and block sizes: a worker serves one base model,
/// and hashes of different block sizes do not meet.
#[derive(Debug, Default)]
pub struct Index {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tree: Tree,
    /// Ordered, so that the ranks of one worker are one range.
    holders: BTreeMap<Holder, Held>,
}

/// What one holder has. A holder with nothing has no entry.
#[derive(Debug, Default)]
struct Held {
    by_engine: HashMap<EngineHash, Binding>,
    /// Distinct nodes among the bindings.
    nodes: usize,
}

#[derive(Copy, Clone, Debug)]
struct Binding {
    node: NodeId,
    copies: u32,
    /// The hash seed that the block was stored under. It is the holder's and not
    /// the node's, so that no holder's events can change what another inherits.
    seed: u64,
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
        self.inner.write().store(holder, parent, seed, blocks)
    }

    /// The seed that a held block was stored under.
    ///
    /// Engines name the cache salt with the first block of a prompt only; the
    /// chains behind it inherit it by asking for their parent's.
    pub fn seed(&self, holder: Holder, engine: &EngineHash) -> Option<u64> {
        let inner = self.inner.read();
        Some(inner.holders.get(&holder)?.by_engine.get(engine)?.seed)
    }

    /// Records that `holder` dropped one copy of a block.
    pub fn remove(&self, holder: Holder, engine: &EngineHash) -> Removed {
        self.inner.write().remove(holder, engine)
    }

    /// Forgets everything that `holder` has; how many blocks that was.
    pub fn clear(&self, holder: Holder) -> usize {
        self.inner.write().clear(holder)
    }

    /// Forgets every rank of `worker`; how many blocks that was.
    ///
    /// Costs in proportion to what the worker held, not to the index.
    pub fn remove_worker(&self, worker: WorkerId) -> usize {
        let mut inner = self.inner.write();
        let (first, last) = (Holder { worker, rank: 0 }, Holder { worker, rank: u32::MAX });
        let ranks: Vec<Holder> = inner.holders.range(first..=last).map(|(&h, _)| h).collect();
        ranks.into_iter().map(|holder| inner.clear(holder)).sum()
    }

    /// Every holder of at least the first of these blocks, and how many leading
    /// blocks each has; ordered by holder.
    pub fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        self.inner.read().find_matches(local)
    }

    /// How many distinct blocks `holder` has.
    pub fn blocks(&self, holder: Holder) -> usize {
        self.inner.read().holders.get(&holder).map_or(0, |held| held.nodes)
    }

    /// Sizes, from counters: cheap.
    pub fn stats(&self) -> Stats {
        let inner = self.inner.read();
        Stats {
            nodes: inner.tree.len(),
            holder_blocks: inner.holders.values().map(|held| held.nodes).sum(),
            holders: inner.holders.len(),
        }
    }

    /// Recomputes every count and link from the others; the first contradiction.
    pub fn audit(&self) -> Result<(), String> {
        self.inner.read().audit()
    }
}

impl Inner {
    fn store(
        &mut self,
        holder: Holder,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
    ) -> Result<Stored, StoreError> {
        let mut node = ROOT;
        if let Some(parent) = parent {
            let held = self.holders.get(&holder).ok_or(StoreError::UnknownParent)?;
            node = held.by_engine.get(&parent).ok_or(StoreError::UnknownParent)?.node;
            if blocks.iter().any(|block| block.engine == parent) {
                return Err(StoreError::SelfParent);
            }
        }
        let mut stored = Stored::default();
        if blocks.is_empty() {
            return Ok(stored);
        }
        let held = self.holders.entry(holder).or_default();
        for block in blocks {
            node = self.tree.child_or_insert(node, block.local);
            match held.by_engine.entry(block.engine) {
                Entry::Occupied(mut entry) if entry.get().node == node => {
                    entry.get_mut().copies += 1;
                    stored.copies += 1;
                }
                Entry::Occupied(mut entry) => {
                    // The new node is held before the old one is let go: they may share
                    // ancestors that only this binding keeps.
                    let old = entry.insert(Binding { node, copies: 1, seed });
                    held.nodes += usize::from(self.tree.hold(node, holder));
                    held.nodes -= usize::from(self.tree.release(old.node, holder));
                    stored.new += 1;
                }
                Entry::Vacant(entry) => {
                    entry.insert(Binding { node, copies: 1, seed });
                    held.nodes += usize::from(self.tree.hold(node, holder));
                    stored.new += 1;
                }
            }
        }
        Ok(stored)
    }

    fn remove(&mut self, holder: Holder, engine: &EngineHash) -> Removed {
        let Some(held) = self.holders.get_mut(&holder) else { return Removed::Unknown };
        let Some(binding) = held.by_engine.get_mut(engine) else { return Removed::Unknown };
        if binding.copies > 1 {
            binding.copies -= 1;
            return Removed::Copy;
        }
        let node = binding.node;
        held.by_engine.remove(engine);
        held.nodes -= usize::from(self.tree.release(node, holder));
        if held.by_engine.is_empty() {
            self.holders.remove(&holder);
        }
        Removed::Last
    }

    fn clear(&mut self, holder: Holder) -> usize {
        let Some(held) = self.holders.remove(&holder) else { return 0 };
        for binding in held.by_engine.values() {
            self.tree.release(binding.node, holder);
        }
        held.nodes
    }

    fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        let mut matches = Vec::new();
        let Some((&first, rest)) = local.split_first() else { return matches };
        let Some(mut node) = self.tree.child(ROOT, first) else { return matches };
        let mut going: Vec<Holder> = self.tree.node(node).holders().iter().map(|h| h.0).collect();
        let mut depth: u32 = 1;
        for &hash in rest {
            let Some(child) = self.tree.child(node, hash) else { break };
            node = child;
            let here = self.tree.node(node);
            going.retain(|&holder| {
                let stays = here.is_held_by(holder);
                if !stays {
                    matches.push(Match { holder, blocks: depth });
                }
                stays
            });
            if going.is_empty() {
                break;
            }
            depth += 1;
        }
        matches.extend(going.into_iter().map(|holder| Match { holder, blocks: depth }));
        matches.sort_unstable();
        matches
    }

    fn audit(&self) -> Result<(), String> {
        let mut names: HashMap<(NodeId, Holder), u32> = HashMap::new();
        for (&holder, held) in &self.holders {
            if held.by_engine.is_empty() {
                return Err(format!("{holder:?} has nothing but is listed"));
            }
            let before = names.len();
            for (engine, binding) in &held.by_engine {
                if binding.copies == 0 {
                    return Err(format!("{holder:?} has no copy of {engine:?}"));
                }
                *names.entry((binding.node, holder)).or_default() += 1;
            }
            if names.len() - before != held.nodes {
                return Err(format!(
                    "{holder:?} counts {} blocks and has {}",
                    held.nodes,
                    names.len() - before
                ));
            }
        }
        for node in self.tree.reachable()? {
            for &(holder, count) in self.tree.node(node).holders() {
                let expected = names.remove(&(node, holder)).unwrap_or(0);
                if expected != count {
                    return Err(format!(
                        "node {node} has {count} names of {holder:?}, which binds {expected}"
                    ));
                }
            }
        }
        names.into_keys().next().map_or(Ok(()), |(node, holder)| {
            Err(format!("{holder:?} binds node {node}, which does not know it"))
        })
    }
}
