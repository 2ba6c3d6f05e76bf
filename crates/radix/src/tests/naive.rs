//! The index again, as simply as it can be said: per holder and tier, what each
//! engine hash names, as a whole path of local hashes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Block, Dropped, EngineHash, Holder, Match, StoreError, Stored, Tier, WorkerId};

struct Named {
    path: Vec<u64>,
    seed: u64,
    copies: usize,
}

struct Orphan {
    tier: Tier,
    parent: EngineHash,
    seed: u64,
    /// With whether it was removed meanwhile.
    blocks: Vec<(Block, bool)>,
}

#[derive(Default)]
struct One {
    named: [BTreeMap<EngineHash, Named>; 3],
    orphans: Vec<Orphan>,
    /// Predicted paths and when they expire.
    predicted: BTreeMap<Vec<u64>, u64>,
}

impl One {
    fn is_empty(&self) -> bool {
        self.named.iter().all(BTreeMap::is_empty)
    }

    fn known(&self, tier: Tier, engine: EngineHash) -> Option<&Named> {
        let tiers = std::iter::once(tier).chain(Tier::ALL);
        tiers.into_iter().find_map(|tier| self.named[tier as usize].get(&engine))
    }

    fn has(&self, tier: Tier, path: &[u64]) -> bool {
        self.named[tier as usize].values().any(|known| known.path == path)
    }

    fn store(&mut self, tier: Tier, above: Vec<u64>, seed: u64, blocks: &[Block]) -> Stored {
        let (mut path, mut stored) = (above, Stored::default());
        for block in blocks {
            path.push(block.local);
            if tier == Tier::Device {
                self.predicted.remove(&path);
            }
            match self.named[tier as usize].get_mut(&block.engine) {
                Some(known) if known.path == path => {
                    known.copies += 1;
                    stored.copies += 1;
                }
                _ => {
                    let named = Named { path: path.clone(), seed, copies: 1 };
                    self.named[tier as usize].insert(block.engine, named);
                    stored.new += 1;
                }
            }
        }
        stored
    }

    fn attach(&mut self) -> usize {
        let mut lost = 0;
        while let Some(at) =
            self.orphans.iter().position(|one| self.known(one.tier, one.parent).is_some())
        {
            let Orphan { tier, parent, seed, blocks } = self.orphans.remove(at);
            let Some(above) = self.known(tier, parent) else { break };
            if above.seed != seed {
                lost += blocks.iter().filter(|block| !block.1).count();
                continue;
            }
            let all: Vec<Block> = blocks.iter().map(|block| block.0).collect();
            self.store(tier, above.path.clone(), seed, &all);
            for (block, _) in blocks.iter().filter(|block| block.1) {
                self.drop_copy(tier, block.engine);
            }
        }
        lost
    }

    fn drop_copy(&mut self, tier: Tier, engine: EngineHash) -> Option<bool> {
        let known = self.named[tier as usize].get_mut(&engine)?;
        known.copies -= 1;
        let last = known.copies == 0;
        if last {
            self.named[tier as usize].remove(&engine);
        }
        Some(last)
    }

    fn drop_waiting(&mut self, tier: Tier, engine: EngineHash) -> bool {
        let mut waiting =
            self.orphans.iter_mut().rev().filter(|orphan| orphan.tier == tier).flat_map(|orphan| {
                orphan.blocks.iter_mut().filter(|(block, gone)| block.engine == engine && !gone)
            });
        let Some(found) = waiting.next() else { return false };
        found.1 = true;
        self.orphans.retain(|orphan| orphan.blocks.iter().any(|block| !block.1));
        true
    }

    fn find(&self, holder: Holder, local: &[u64]) -> Match {
        let reach = |from: usize, has: &dyn Fn(&[u64]) -> bool| {
            (from + 1..=local.len())
                .take_while(|&depth| has(&local[..depth]))
                .last()
                .unwrap_or(from)
        };
        let blocks = reach(0, &|path| self.has(Tier::Device, path));
        let host = reach(blocks, &|path| self.has(Tier::Host, path));
        let disk = reach(host, &|path| self.has(Tier::Disk, path));
        let predicted =
            reach(0, &|path| self.has(Tier::Device, path) || self.predicted.contains_key(path));
        let [blocks, host, disk, predicted] = [blocks, host, disk, predicted].map(|n| n as u32);
        Match { holder, blocks, host, disk, predicted }
    }
}

#[derive(Default)]
pub(super) struct Naive {
    holders: BTreeMap<Holder, One>,
    pub(super) lost: usize,
}

impl Naive {
    pub(super) fn store(
        &mut self,
        holder: Holder,
        tier: Tier,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
    ) -> Result<Stored, StoreError> {
        if blocks.iter().any(|block| Some(block.engine) == parent) {
            return Err(StoreError::SelfParent);
        }
        if blocks.is_empty() {
            return Ok(Stored::default());
        }
        let one = self.holders.entry(holder).or_default();
        let above = match parent {
            None => Vec::new(),
            Some(parent) => match one.known(tier, parent) {
                Some(known) => known.path.clone(),
                None => {
                    let waiting = blocks.iter().map(|&block| (block, false)).collect();
                    one.orphans.push(Orphan { tier, parent, seed, blocks: waiting });
                    return Ok(Stored { aside: blocks.len(), ..Stored::default() });
                }
            },
        };
        let stored = one.store(tier, above, seed, blocks);
        self.lost += one.attach();
        Ok(stored)
    }

    pub(super) fn hold(&mut self, holder: Holder, tier: Tier, engines: &[EngineHash]) -> Stored {
        let mut stored = Stored::default();
        let Some(one) = self.holders.get_mut(&holder) else { return stored };
        for &engine in engines {
            let Some(known) = one.known(tier, engine) else { continue };
            let (mut path, seed) = (known.path.clone(), known.seed);
            let Some(local) = path.pop() else { continue };
            let done = one.store(tier, path, seed, &[Block { local, engine }]);
            stored.new += done.new;
            stored.copies += done.copies;
        }
        stored
    }

    pub(super) fn remove(&mut self, holder: Holder, tier: Tier, engines: &[EngineHash]) -> Dropped {
        let mut dropped = Dropped::default();
        for &engine in engines {
            let Some(one) = self.holders.get_mut(&holder) else {
                dropped.unknown += 1;
                continue;
            };
            let known = one.drop_copy(tier, engine);
            let waited = known.is_none() && one.drop_waiting(tier, engine);
            *match known {
                Some(true) => &mut dropped.last,
                Some(false) => &mut dropped.copies,
                None if waited => &mut dropped.aside,
                None => &mut dropped.unknown,
            } += 1;
        }
        dropped
    }

    pub(super) fn clear(&mut self, holder: Holder) -> usize {
        let blocks = Tier::ALL.map(|tier| self.blocks(holder, tier)).iter().sum();
        self.holders.remove(&holder);
        blocks
    }

    pub(super) fn remove_worker(&mut self, worker: WorkerId) -> usize {
        let ranks: Vec<Holder> =
            self.holders.keys().copied().filter(|holder| holder.worker == worker).collect();
        ranks.into_iter().map(|holder| self.clear(holder)).sum()
    }

    pub(super) fn predict(&mut self, holder: Holder, local: &[u64], expires: u64) -> usize {
        let one = self.holders.entry(holder).or_default();
        let paths = (1..=local.len()).map(|depth| &local[..depth]);
        let new: Vec<&[u64]> = paths.filter(|path| !one.has(Tier::Device, path)).collect();
        for path in &new {
            let known = one.predicted.entry(path.to_vec()).or_default();
            *known = expires.max(*known);
        }
        new.len()
    }

    pub(super) fn expire(&mut self, now: u64) {
        for one in self.holders.values_mut() {
            one.predicted.retain(|_, &mut expires| expires > now);
        }
    }

    pub(super) fn seed(&self, holder: Holder, engine: EngineHash) -> Option<u64> {
        Some(self.holders.get(&holder)?.known(Tier::Device, engine)?.seed)
    }

    pub(super) fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        let all = self.holders.iter().map(|(&holder, one)| one.find(holder, local));
        all.filter(|found| found.disk.max(found.predicted) > 0).collect()
    }

    pub(super) fn blocks(&self, holder: Holder, tier: Tier) -> usize {
        let Some(one) = self.holders.get(&holder) else { return 0 };
        let paths = one.named[tier as usize].values().map(|known| &known.path);
        paths.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn holders(&self) -> usize {
        self.holders.values().filter(|one| !one.is_empty()).count()
    }

    pub(super) fn waiting(&self) -> usize {
        let all = self.holders.values().flat_map(|one| &one.orphans);
        all.flat_map(|orphan| &orphan.blocks).filter(|block| !block.1).count()
    }

    /// Nodes of a tree that keeps what is held or predicted and what lies above it.
    pub(super) fn nodes(&self) -> usize {
        let named = |one: &'_ One| {
            let held = one.named.iter().flat_map(BTreeMap::values).map(|known| known.path.clone());
            held.chain(one.predicted.keys().cloned()).collect::<Vec<_>>()
        };
        let paths = self.holders.values().flat_map(named);
        let needed: BTreeSet<Vec<u64>> = paths
            .flat_map(|path| {
                (1..=path.len()).map(|depth| path[..depth].to_vec()).collect::<Vec<_>>()
            })
            .collect();
        needed.len()
    }
}
