//! What one holder has, by its own engine hashes.

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::run::Place;
use crate::table::Table;
use crate::tree::{NodeId, Put, Tree};
use crate::{Block, Dropped, EngineHash, Holder, Removed, StoreError, Stored};

/// Blocks of one removal that share a write section, which is what readers wait for.
const TOGETHER: usize = 64;

/// The bindings of one holder.
///
/// What is rare is kept aside: more than one copy, a seed that is not the run's, a
/// block with several names.
#[derive(Debug, Default)]
pub(crate) struct Held {
    integers: Table<u64>,
    digests: Table<[u8; 32]>,
    odd: HashMap<EngineHash, Odd>,
    /// Names beyond the first of a block.
    aliases: HashMap<Place, u32>,
    /// Distinct blocks among the bindings.
    blocks: usize,
    /// Where the last store laid its blocks; kept for its memory.
    puts: Vec<Put>,
}

#[derive(Copy, Clone, Debug, Default)]
struct Odd {
    /// Copies beyond the first.
    copies: u32,
    seed: Option<u64>,
}

impl Held {
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.integers.len() + self.digests.len() == 0
    }

    pub(crate) fn seed(&self, engine: &EngineHash, tree: &RwLock<Tree>) -> Option<u64> {
        let place = self.place(engine)?;
        let own = self.odd.get(engine).and_then(|odd| odd.seed);
        own.or_else(|| tree.read().seed(place))
    }

    /// The tree is locked once, for laying the blocks down, and the table is filled
    /// after that. Nobody else can take the blocks from under it: they are held.
    pub(crate) fn store(
        &mut self,
        holder: Holder,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
        tree: &RwLock<Tree>,
    ) -> Result<Stored, StoreError> {
        let above = match parent {
            None => None,
            Some(name) => Some(self.place(&name).ok_or(StoreError::UnknownParent)?),
        };
        if parent.is_some_and(|parent| blocks.iter().any(|block| block.engine == parent)) {
            return Err(StoreError::SelfParent);
        }
        let mut stored = Stored::default();
        if blocks.is_empty() {
            return Ok(stored);
        }
        let mut puts = std::mem::take(&mut self.puts);
        tree.write().store(holder, above, seed, blocks, &mut puts);
        // Old bindings go last: a later block of this chain may lie where one was.
        let mut loose = Vec::new();
        for (number, (block, put)) in blocks.iter().zip(&puts).enumerate() {
            if number % TOGETHER == 0 {
                let ahead = blocks[number..].iter().take(TOGETHER);
                self.touch(ahead.map(|block| &block.engine));
            }
            let before = self.bind(block.engine, put.place);
            if before == Some(put.place) {
                self.odd.entry(block.engine).or_default().copies += 1;
                stored.copies += 1;
                continue;
            }
            stored.new += 1;
            if let Some(before) = before {
                self.odd.remove(&block.engine);
                loose.push(before);
            }
            if put.other_seed {
                self.odd.insert(block.engine, Odd { copies: 0, seed: Some(seed) });
            }
            if put.had {
                *self.aliases.entry(put.place).or_default() += 1;
            } else {
                self.blocks += 1;
            }
        }
        puts.clear();
        puts.shrink_to(1024);
        self.puts = puts;
        for place in loose {
            if self.unname(place) {
                tree.write().release(place, holder);
            }
        }
        Ok(stored)
    }

    pub(crate) fn remove(
        &mut self,
        holder: Holder,
        engine: &EngineHash,
        tree: &RwLock<Tree>,
    ) -> Removed {
        let (removed, gone) = self.unbind(engine);
        if let Some(place) = gone {
            tree.write().release(place, holder);
        }
        removed
    }

    pub(crate) fn remove_many(
        &mut self,
        holder: Holder,
        engines: &[EngineHash],
        tree: &RwLock<Tree>,
    ) -> Dropped {
        let mut dropped = Dropped::default();
        for engines in engines.chunks(TOGETHER) {
            self.touch(engines.iter());
            let (mut gone, mut count) = ([0; TOGETHER], 0);
            for engine in engines {
                let (removed, place) = self.unbind(engine);
                dropped.count(removed);
                if let Some(place) = place {
                    gone[count] = place;
                    count += 1;
                }
            }
            if count > 0 {
                let mut tree = tree.write();
                gone[..count].iter().for_each(|&place| tree.release(place, holder));
            }
        }
        dropped
    }

    /// Lets everything go; how many blocks that was.
    pub(crate) fn clear(&mut self, holder: Holder, tree: &RwLock<Tree>) -> usize {
        let held = std::mem::take(self);
        let mut places = held.places();
        loop {
            let mut tree = tree.write();
            let before = places.by_ref().take(TOGETHER).map(|place| {
                tree.release_node(place, holder);
            });
            if before.count() < TOGETHER {
                break;
            }
        }
        held.blocks
    }

    /// Whether every count is right; adds the distinct blocks to `found`, by node.
    pub(crate) fn audit(
        &self,
        holder: Holder,
        tree: &Tree,
        found: &mut HashMap<(NodeId, Holder), u32>,
    ) -> Result<(), String> {
        if !self.integers.audit() || !self.digests.audit() {
            return Err(format!("the tables of {holder:?} do not find what they have"));
        }
        let mut names: HashMap<Place, u32> = HashMap::new();
        for place in self.places() {
            *names.entry(place).or_default() += 1;
        }
        if names.len() != self.blocks {
            return Err(format!("{holder:?} counts {} blocks, has {}", self.blocks, names.len()));
        }
        for (&place, &count) in &names {
            if self.aliases.get(&place).copied().unwrap_or(0) != count - 1 {
                return Err(format!("{holder:?} has {count} names of place {place}"));
            }
            let (id, at) = tree.runs().node(place).ok_or("a binding leads nowhere")?;
            let node = tree.node(id);
            let cover = node.position(holder).map(|at| &node.covers[at]);
            if at >= node.len || !cover.is_ok_and(|cover| cover.has(at)) {
                return Err(format!("{holder:?} binds place {place}, which does not know it"));
            }
            *found.entry((id, holder)).or_default() += 1;
        }
        if self.aliases.keys().any(|place| !names.contains_key(place))
            || self.odd.keys().any(|engine| self.place(engine).is_none())
            || self.odd.values().any(|odd| odd.copies == 0 && odd.seed.is_none())
        {
            return Err(format!("{holder:?} remembers oddities of what it does not have"));
        }
        Ok(())
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.integers.iter().map(|slot| slot.1).chain(self.digests.iter().map(|slot| slot.1))
    }

    fn place(&self, engine: &EngineHash) -> Option<Place> {
        match engine {
            EngineHash::Int(number) => self.integers.get(number),
            EngineHash::Bytes(digest) => self.digests.get(digest),
        }
    }

    fn bind(&mut self, engine: EngineHash, place: Place) -> Option<Place> {
        match engine {
            EngineHash::Int(number) => self.integers.insert(number, place),
            EngineHash::Bytes(digest) => self.digests.insert(digest, place),
        }
    }

    /// Drops a copy, and with the last the binding; the place if it was the last
    /// name of it.
    fn unbind(&mut self, engine: &EngineHash) -> (Removed, Option<Place>) {
        if !self.odd.is_empty()
            && let Some(odd) = self.odd.get_mut(engine)
        {
            if odd.copies > 0 {
                odd.copies -= 1;
                if odd.copies == 0 && odd.seed.is_none() {
                    self.odd.remove(engine);
                }
                return (Removed::Copy, None);
            }
            self.odd.remove(engine);
        }
        let place = match engine {
            EngineHash::Int(number) => self.integers.remove(number),
            EngineHash::Bytes(digest) => self.digests.remove(digest),
        };
        match place {
            None => (Removed::Unknown, None),
            Some(place) => (Removed::Last, self.unname(place).then_some(place)),
        }
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

    /// Brings the slots of these into the cache, all at once.
    fn touch<'a>(&self, engines: impl Iterator<Item = &'a EngineHash>) {
        let read = engines.fold(0, |read, engine| {
            read ^ match engine {
                EngineHash::Int(number) => self.integers.touch(number),
                EngineHash::Bytes(digest) => self.digests.touch(digest),
            }
        });
        std::hint::black_box(read);
    }
}
