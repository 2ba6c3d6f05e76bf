//! What one holder has: its tiers, what waits for a parent, what is predicted.

use hashbrown::HashMap;

use crate::aside::{Aside, Orphan};
use crate::index::Core;
use crate::lane::Lane;
use crate::predict::Predicted;
use crate::run::Place;
use crate::seat::Seat;
use crate::tree::{Laid, NodeId, Tree};
use crate::{Block, Dropped, EngineHash, StoreError, Stored, Tier};

/// Blocks of one store that share a write section, which is what readers wait for.
const TOGETHER: usize = 256;

/// One holder.
#[derive(Debug)]
pub(crate) struct Held {
    number: u32,
    lanes: [Lane; 3],
    aside: Aside,
    predicted: Predicted,
    /// Where the last store laid its blocks; kept for its memory.
    laid: Vec<Laid>,
}

impl Held {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            lanes: Default::default(),
            aside: Aside::default(),
            predicted: Predicted::default(),
            laid: Vec::new(),
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_empty) && self.aside.is_empty() && self.predicted.is_empty()
    }

    pub(crate) fn blocks(&self, tier: Tier) -> usize {
        self.lane(tier).blocks()
    }

    /// Blocks that wait for their parent.
    pub(crate) fn waiting(&self) -> usize {
        self.aside.blocks()
    }

    pub(crate) fn heap(&self) -> usize {
        self.lanes.iter().map(Lane::heap).sum::<usize>()
            + self.aside.heap()
            + self.predicted.heap()
            + self.laid.capacity() * size_of::<Laid>()
    }

    pub(crate) fn lane(&self, tier: Tier) -> &Lane {
        &self.lanes[tier as usize]
    }

    fn seat(&self, tier: Tier) -> Seat {
        Seat::new(self.number, tier)
    }

    /// Where a name leads to, on that tier first.
    fn place(&self, tier: Tier, engine: EngineHash) -> Option<(Tier, Place)> {
        let tiers = std::iter::once(tier).chain(Tier::ALL);
        tiers.into_iter().find_map(|tier| Some((tier, self.lane(tier).place(engine)?)))
    }

    pub(crate) fn seed(&self, engine: EngineHash, core: &Core) -> Option<u64> {
        self.seed_on(Tier::Device, engine, core)
    }

    fn seed_on(&self, tier: Tier, engine: EngineHash, core: &Core) -> Option<u64> {
        let (tier, place) = self.place(tier, engine)?;
        self.lane(tier).own_seed(engine).or_else(|| core.tree.read().seed(place))
    }

    pub(crate) fn store(
        &mut self,
        tier: Tier,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
        core: &Core,
    ) -> Result<Stored, StoreError> {
        if parent.is_some_and(|parent| blocks.iter().any(|block| block.engine == parent)) {
            return Err(StoreError::SelfParent);
        }
        if blocks.is_empty() {
            return Ok(Stored::default());
        }
        let above = match parent {
            None => None,
            Some(parent) => match self.place(tier, parent) {
                Some((_, place)) => Some(place),
                None => {
                    let (blocks, gone) = (blocks.to_vec(), Vec::new());
                    let aside = blocks.len();
                    core.lose(self.aside.add(Orphan { tier, parent, seed, blocks, gone }));
                    return Ok(Stored { aside, ..Stored::default() });
                }
            },
        };
        let stored = self.lay(tier, parent.zip(above), seed, blocks, core)?;
        self.attach(core);
        Ok(stored)
    }

    /// The tree is locked for laying some blocks down, and the table is filled after
    /// that. Nobody else can take them from under it: they are held.
    fn lay(
        &mut self,
        tier: Tier,
        behind: Option<(EngineHash, Place)>,
        seed: u64,
        blocks: &[Block],
        core: &Core,
    ) -> Result<Stored, StoreError> {
        let (mut parent, mut above) = behind.unzip();
        let seat = self.seat(tier);
        let mut stored = Stored::default();
        let mut laid = std::mem::take(&mut self.laid);
        let mut full = false;
        let mut ahead = blocks.len();
        for blocks in blocks.chunks(TOGETHER) {
            ahead -= blocks.len();
            laid.clear();
            {
                let mut tree = core.tree.write();
                full = !tree.runs().has_room(blocks.len());
                if full {
                    break;
                }
                tree.store(seat, above, Some(seed), blocks, ahead, &mut laid);
            }
            above = laid.last().map(|last| last.place + last.len - 1);
            if tier == Tier::Device {
                self.predicted.came(&laid);
            }
            let lane = &mut self.lanes[tier as usize];
            let bound = lane.bind(seat, parent.take(), seed, blocks, &laid, &core.tree);
            stored.new += bound.new;
            stored.copies += bound.copies;
        }
        self.laid = laid;
        if full && stored == Stored::default() { Err(StoreError::Full) } else { Ok(stored) }
    }

    /// Lays down what waited for a block that is there now.
    fn attach(&mut self, core: &Core) {
        while !self.aside.is_empty() {
            let lanes = &self.lanes;
            let is_held = |engine| lanes.iter().any(|lane| lane.place(engine).is_some());
            let Some(orphan) = self.aside.ready(is_held) else { return };
            let waiting = orphan.waiting();
            let (tier, parent, seed) = (orphan.tier, orphan.parent, orphan.seed);
            // Its hashes were made with a seed that the parent should have: where it
            // turns out to have another, they are of other content.
            let behind = self.place(tier, parent).map(|(_, place)| (parent, place));
            if self.seed_on(tier, parent, core) != Some(seed)
                || self.lay(tier, behind, seed, &orphan.blocks, core).is_err()
            {
                core.lose(waiting);
                continue;
            }
            let seat = self.seat(tier);
            let lane = &mut self.lanes[tier as usize];
            lane.remove(seat, &orphan.gone, &core.tree, &mut |_| {});
        }
    }

    /// Blocks that the holder has on some tier are now on this one too.
    pub(crate) fn hold(&mut self, tier: Tier, engines: &[EngineHash], core: &Core) -> Stored {
        let seat = self.seat(tier);
        let mut stored = Stored::default();
        for &engine in engines {
            let Some((from, place)) = self.place(tier, engine) else { continue };
            let own_seed = self.lane(from).own_seed(engine);
            let Some(laid) = core.tree.write().hold(seat, place) else { continue };
            let laid = [Laid { other_seed: own_seed.is_some(), ..laid }];
            if tier == Tier::Device {
                self.predicted.came(&laid);
            }
            let (block, seed) = ([Block { local: 0, engine }], own_seed.unwrap_or_default());
            let lane = &mut self.lanes[tier as usize];
            let bound = lane.bind(seat, None, seed, &block, &laid, &core.tree);
            stored.new += bound.new;
            stored.copies += bound.copies;
        }
        stored
    }

    pub(crate) fn remove(&mut self, tier: Tier, engines: &[EngineHash], core: &Core) -> Dropped {
        let seat = self.seat(tier);
        let aside = &mut self.aside;
        let (mut waited, mut unknown) = (0, 0);
        let mut missing = |engine| {
            if !aside.is_empty() && aside.remove(tier, engine) {
                waited += 1;
            } else {
                unknown += 1;
            }
        };
        let lane = &mut self.lanes[tier as usize];
        let dropped = lane.remove(seat, engines, &core.tree, &mut missing);
        lane.settle(|bytes| core.fits(bytes));
        Dropped { aside: waited, unknown, ..dropped }
    }

    /// Lets these of a tier go with all their copies; how many blocks that was.
    pub(crate) fn forget(&mut self, tier: Tier, engines: &[EngineHash], core: &Core) -> usize {
        let seat = self.seat(tier);
        let lane = &mut self.lanes[tier as usize];
        let blocks = lane.forget(seat, engines, &core.tree);
        lane.settle(|bytes| core.fits(bytes));
        blocks
    }

    /// Lets go of what waits; how many blocks that was.
    pub(crate) fn give_up(&mut self, core: &Core) -> usize {
        let lost = self.waiting();
        self.aside = Aside::default();
        core.lose(lost);
        lost
    }

    /// Lets go of what is predicted; how many blocks that was.
    pub(crate) fn give_up_predicted(&mut self, core: &Core) -> usize {
        let blocks = self.predicted();
        self.predicted.clear(Seat::predicted(self.number), &core.tree);
        blocks
    }

    /// Adds copies of blocks of a tier.
    pub(crate) fn copy(&mut self, tier: Tier, copies: &HashMap<EngineHash, u32>) {
        let lane = &mut self.lanes[tier as usize];
        copies.iter().for_each(|(&engine, &copies)| lane.copy(engine, copies));
    }

    /// Lets everything go; how many blocks that was, on all tiers.
    pub(crate) fn clear(&mut self, core: &Core) -> usize {
        self.aside = Aside::default();
        self.predicted.clear(Seat::predicted(self.number), &core.tree);
        self.laid = Vec::new();
        let number = self.number;
        let lanes = self.lanes.iter_mut().zip(Tier::ALL);
        lanes.map(|(lane, tier)| lane.clear(Seat::new(number, tier), &core.tree)).sum()
    }

    /// Expects blocks until a time; how many of them the device has not.
    pub(crate) fn predict(&mut self, locals: &[u64], expires: u64, core: &Core) -> usize {
        let seat = Seat::predicted(self.number);
        let engine = EngineHash::default();
        let blocks: Vec<Block> = locals.iter().map(|&local| Block { local, engine }).collect();
        let (mut above, mut depth, mut predicted) = (None, 0, 0);
        let mut laid = std::mem::take(&mut self.laid);
        for blocks in blocks.chunks(TOGETHER) {
            laid.clear();
            {
                let mut tree = core.tree.write();
                if !tree.runs().has_room(blocks.len()) {
                    break;
                }
                tree.store(seat, above, None, blocks, 0, &mut laid);
            }
            above = laid.last().map(|last| last.place + last.len - 1);
            predicted += self.predicted.add(&laid, depth, expires);
            depth += blocks.len() as u32;
        }
        self.laid = laid;
        predicted
    }

    /// Lets go of predictions whose time has passed.
    pub(crate) fn expire(&mut self, now: u64, core: &Core) {
        self.predicted.expire(now, Seat::predicted(self.number), &core.tree);
    }

    /// Lets go of predictions beyond that many, those first that expire first.
    pub(crate) fn trim_predicted(&mut self, most: usize, core: &Core) -> usize {
        self.predicted.trim(most, Seat::predicted(self.number), &core.tree)
    }

    /// Whether every count is right; adds the distinct blocks to `found`, by node.
    pub(crate) fn audit(
        &self,
        tree: &Tree,
        found: &mut HashMap<(NodeId, Seat), u32>,
    ) -> Result<(), String> {
        for (lane, tier) in self.lanes.iter().zip(Tier::ALL) {
            lane.audit(self.seat(tier), tree, found)?;
        }
        Ok(())
    }

    /// Blocks that are predicted.
    pub(crate) fn predicted(&self) -> usize {
        self.predicted.blocks()
    }

    /// How many of a node's blocks are predicted; none if one of them is forgotten.
    pub(crate) fn expects(&self, tree: &Tree, id: NodeId) -> Option<usize> {
        let node = tree.node(id);
        let run = tree.runs().run(node.run);
        let cover = node.covers.find(Seat::predicted(self.number))?;
        let knows = |at| self.predicted.knows(run.place(node.start + at));
        cover.held().all(knows).then(|| cover.held().count())
    }
}
