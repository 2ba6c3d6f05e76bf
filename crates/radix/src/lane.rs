//! What one holder has on one tier, by its own engine hashes.

use hashbrown::HashMap;

use crate::run::Place;
use crate::seat::Seat;
use crate::sync::RwLock;
use crate::table::{BATCH, Homes, Table};
use crate::tree::{Laid, NodeId, Tree};
use crate::{Block, Dropped, EngineHash, Stored};

/// The bindings of one seat.
///
/// What is rare is kept aside: more than one copy, a seed that is not the run's, a
/// block with several names.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    table: Table,
    odd: HashMap<EngineHash, Odd>,
    /// Names beyond the first of a block.
    aliases: HashMap<Place, u32>,
    /// Distinct blocks among the bindings.
    blocks: usize,
}

#[derive(Copy, Clone, Debug, Default)]
struct Odd {
    /// Copies beyond the first.
    copies: u32,
    seed: Option<u64>,
}

/// A name with what is odd about it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Named {
    pub(crate) engine: EngineHash,
    /// At least 1.
    pub(crate) copies: u32,
    /// Where it is not the run's.
    pub(crate) seed: Option<u64>,
}

impl Lane {
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    pub(crate) fn heap(&self) -> usize {
        self.table.heap() + self.odd.allocation_size() + self.aliases.allocation_size()
    }

    /// What that many blocks more would make the heap grow by, meanwhile.
    pub(crate) fn growth(&self, more: usize) -> usize {
        self.table.growth(more)
    }

    pub(crate) fn place(&self, engine: EngineHash) -> Option<Place> {
        self.table.get(engine)
    }

    /// Under which seed a block was stored, if it was another than its run's.
    pub(crate) fn own_seed(&self, engine: EngineHash) -> Option<u64> {
        self.odd.get(&engine).and_then(|odd| odd.seed)
    }

    /// Binds blocks that were laid down, behind `parent` if it is known.
    pub(crate) fn bind(
        &mut self,
        seat: Seat,
        parent: Option<EngineHash>,
        seed: u64,
        mut blocks: &[Block],
        laid: &[Laid],
        tree: &RwLock<Tree>,
    ) -> Stored {
        let mut stored = Stored::default();
        // Old bindings go last: a later block of this chain may lie where one was.
        let mut loose = Vec::new();
        self.table.reserve(blocks.len());
        if let Some(parent) = parent {
            self.table.follow(parent);
        }
        let mut next = self.homes(blocks, laid.first());
        for (at, laid_here) in laid.iter().enumerate() {
            let (batch, rest) = blocks.split_at(laid_here.len as usize);
            blocks = rest;
            // While these are bound, memory looks for the next.
            let homes = std::mem::replace(&mut next, self.homes(rest, laid.get(at + 1)));
            self.table.beyond(&homes[..batch.len()]);
            for (number, (block, home)) in batch.iter().zip(homes).enumerate() {
                let place = laid_here.place + number as u32;
                let before = self.table.insert(home, block.engine, place);
                let had = laid_here.had >> number & 1 == 1;
                if before.is_none() && !had && !laid_here.other_seed {
                    self.blocks += 1;
                    stored.new += 1;
                    continue;
                }
                if before == Some(place) {
                    let odd = self.odd.entry(block.engine).or_default();
                    odd.copies = odd.copies.saturating_add(1);
                    stored.copies += 1;
                    continue;
                }
                stored.new += 1;
                if let Some(before) = before {
                    self.odd.remove(&block.engine);
                    loose.push(before);
                }
                if laid_here.other_seed {
                    self.odd.insert(block.engine, Odd { copies: 0, seed: Some(seed) });
                }
                if had {
                    *self.aliases.entry(place).or_default() += 1;
                } else {
                    self.blocks += 1;
                }
            }
        }
        for place in loose {
            if self.unname(place) {
                tree.write().release(seat, place, 1);
            }
        }
        stored
    }

    fn homes(&self, blocks: &[Block], laid: Option<&Laid>) -> Homes {
        let len = laid.map_or(0, |laid| laid.len as usize);
        self.table.homes(blocks[..len].iter().map(|block| block.engine))
    }

    /// Drops one copy of each; those that are not known go to `unknown`.
    pub(crate) fn remove(
        &mut self,
        seat: Seat,
        engines: &[EngineHash],
        tree: &RwLock<Tree>,
        unknown: &mut impl FnMut(EngineHash),
    ) -> Dropped {
        let mut dropped = Dropped::default();
        let mut gone = Stretches::default();
        let mut batches = engines.chunks(BATCH).peekable();
        let mut next = self.homes_of(batches.peek());
        while let Some(batch) = batches.next() {
            let homes = std::mem::replace(&mut next, self.homes_of(batches.peek()));
            self.table.beyond(&homes[..batch.len()]);
            for (&engine, home) in batch.iter().zip(homes) {
                if !self.odd.is_empty() && self.uncopy(engine) {
                    dropped.copies += 1;
                    continue;
                }
                match self.table.remove(home, engine) {
                    None => unknown(engine),
                    Some(place) => {
                        dropped.last += 1;
                        if self.unname(place) {
                            gone.add(place);
                        }
                    }
                }
            }
            if gone.is_full() {
                gone.release(seat, tree);
            }
        }
        gone.release(seat, tree);
        dropped
    }

    fn homes_of(&self, batch: Option<&&[EngineHash]>) -> Homes {
        self.table.homes(batch.into_iter().flat_map(|batch| batch.iter().copied()))
    }

    /// Lets these go with all their copies; how many distinct blocks that was.
    pub(crate) fn forget(
        &mut self,
        seat: Seat,
        engines: &[EngineHash],
        tree: &RwLock<Tree>,
    ) -> usize {
        let before = self.blocks;
        if !self.odd.is_empty() {
            for engine in engines {
                self.odd.remove(engine);
            }
        }
        self.remove(seat, engines, tree, &mut |_| {});
        before - self.blocks
    }

    /// Lets everything go; how many blocks that was.
    pub(crate) fn clear(&mut self, seat: Seat, tree: &RwLock<Tree>) -> usize {
        let lane = std::mem::take(self);
        let mut places = lane.table.iter().map(|slot| slot.1).peekable();
        while places.peek().is_some() {
            let mut tree = tree.write();
            places.by_ref().take(BATCH).for_each(|place| tree.release_node(seat, place));
        }
        lane.blocks
    }

    /// All names with what is odd about them.
    pub(crate) fn described(&self) -> impl Iterator<Item = (Named, Place)> {
        self.table.iter().map(|(engine, place)| {
            let odd = self.odd.get(&engine).copied().unwrap_or_default();
            (Named { engine, copies: odd.copies.saturating_add(1), seed: odd.seed }, place)
        })
    }

    /// Adds copies of a block that there is.
    pub(crate) fn copy(&mut self, engine: EngineHash, copies: u32) {
        if copies > 0 && self.place(engine).is_some() {
            let odd = self.odd.entry(engine).or_default();
            odd.copies = odd.copies.saturating_add(copies);
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (EngineHash, Place)> {
        self.table.iter()
    }

    /// Up to that many bindings, picked evenly.
    pub(crate) fn sample(
        &self,
        start: usize,
        most: usize,
    ) -> impl Iterator<Item = (EngineHash, Place)> {
        self.table.iter_from(start).take(most)
    }

    /// Whether every count is right; adds the distinct blocks to `found`, by node.
    pub(crate) fn audit(
        &self,
        seat: Seat,
        tree: &Tree,
        found: &mut HashMap<(NodeId, Seat), u32>,
    ) -> Result<(), String> {
        if !self.table.audit() {
            return Err(format!("the table of {seat:?} does not find what it has"));
        }
        let mut names: HashMap<Place, u32> = HashMap::new();
        for (_, place) in self.table.iter() {
            *names.entry(place).or_default() += 1;
        }
        if names.len() != self.blocks {
            return Err(format!("{seat:?} counts {} blocks, has {}", self.blocks, names.len()));
        }
        for (&place, &count) in &names {
            if self.aliases.get(&place).copied().unwrap_or(0) != count - 1 {
                return Err(format!("{seat:?} has {count} names of place {place}"));
            }
            let (id, at) = tree.runs().node(place).ok_or("a binding leads nowhere")?;
            let node = tree.node(id);
            if at >= node.len || !node.covers.find(seat).is_some_and(|cover| cover.has(at)) {
                return Err(format!("{seat:?} binds place {place}, which does not know it"));
            }
            if tree.seed(place).is_none() {
                return Err(format!("place {place} is held and has no seed"));
            }
            *found.entry((id, seat)).or_default() += 1;
        }
        if self.aliases.keys().any(|place| !names.contains_key(place))
            || self.odd.keys().any(|&engine| self.place(engine).is_none())
            || self.odd.values().any(|odd| odd.copies == 0 && odd.seed.is_none())
        {
            return Err(format!("{seat:?} remembers oddities of what it does not have"));
        }
        Ok(())
    }

    /// Takes a copy from a block that has several; whether it has. One that has not
    /// is about to go, and what was odd about it is forgotten.
    fn uncopy(&mut self, engine: EngineHash) -> bool {
        let Some(odd) = self.odd.get_mut(&engine) else { return false };
        if odd.copies == 0 {
            self.odd.remove(&engine);
            return false;
        }
        odd.copies -= 1;
        if odd.copies == 0 && odd.seed.is_none() {
            self.odd.remove(&engine);
        }
        true
    }

    /// Takes one name from a block; whether it was the last.
    fn unname(&mut self, place: Place) -> bool {
        if !self.aliases.is_empty()
            && let Some(others) = self.aliases.get_mut(&place)
        {
            *others -= 1;
            if *others == 0 {
                self.aliases.remove(&place);
            }
            return false;
        }
        self.blocks -= 1;
        true
    }

    /// Gives memory back that removals left; a smaller table only where it `fits`.
    pub(crate) fn settle(&mut self, fits: impl FnOnce(usize) -> bool) {
        self.table.settle(fits);
        if self.odd.is_empty() && self.odd.capacity() > 0 {
            self.odd = HashMap::default();
        }
        if self.aliases.is_empty() && self.aliases.capacity() > 0 {
            self.aliases = HashMap::default();
        }
    }
}

/// Places to release, as stretches within a chunk: engines evict chains tail first,
/// and one stretch is one change of the tree.
#[derive(Debug, Default)]
struct Stretches {
    stretches: Vec<(Place, u32)>,
    places: usize,
}

impl Stretches {
    fn add(&mut self, place: Place) {
        self.places += 1;
        let chunk = |place: Place| place / crate::run::CHUNK;
        match self.stretches.last_mut() {
            Some((first, len)) if place + 1 == *first && chunk(place) == chunk(*first) => {
                (*first, *len) = (place, *len + 1);
            }
            Some((first, len)) if place == *first + *len && chunk(place) == chunk(*first) => {
                *len += 1;
            }
            _ => self.stretches.push((place, 1)),
        }
    }

    /// Whether a reader would begin to notice.
    fn is_full(&self) -> bool {
        self.stretches.len() >= BATCH || self.places >= 16 * BATCH
    }

    fn release(&mut self, seat: Seat, tree: &RwLock<Tree>) {
        if self.stretches.is_empty() {
            return;
        }
        let mut tree = tree.write();
        self.stretches.drain(..).for_each(|(place, len)| tree.release(seat, place, len));
        self.places = 0;
    }
}
