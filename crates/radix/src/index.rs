//! The index: the tree, what each holder has, and who waits for whom.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;

use crate::find::Matches;
use crate::held::Held;
use crate::seat::PREDICTED;
use crate::sync::{Mutex, RwLock};
use crate::tree::Tree;
use crate::{
    Block, Dropped, EngineHash, Holder, Match, Progress, Stats, StoreError, Stored, Tier, WorkerId,
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
    /// Held by whoever makes room.
    pub(crate) evicting: Mutex<()>,
    /// Ordered, so that the ranks of one worker are one range. A holder with nothing
    /// has no entry. Written only when holders come and go.
    pub(crate) holders: RwLock<BTreeMap<Holder, Box<Mutex<Held>>>>,
    pub(crate) core: Core,
}

/// What all holders share.
#[derive(Debug, Default)]
pub(crate) struct Core {
    pub(crate) tree: RwLock<Tree>,
    /// Most heap to take, in bytes; 0 for no ceiling.
    pub(crate) ceiling: usize,
    /// Heap of the holders, in bytes.
    pub(crate) held: AtomicUsize,
    pub(crate) evicted: AtomicU64,
    lost: AtomicU64,
}

impl Core {
    /// Counts blocks that waited in vain.
    pub(crate) fn lose(&self, blocks: usize) {
        self.lost.fetch_add(blocks as u64, Ordering::Relaxed);
    }

    /// Heap in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed) + self.tree.read().heap()
    }

    /// Whether that much more stays below the ceiling.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.ceiling == 0 || self.bytes() + bytes <= self.ceiling
    }

    fn count(&self, before: usize, after: usize) {
        // Wraps around, as the sum of all differences does not.
        self.held.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// The least ceiling: an index of some small nodes takes a page of each slab.
const LEAST_CEILING: usize = 32 << 10;

/// A holder's own size, and what its place in the list takes.
pub(crate) const HOLDER: usize = size_of::<Mutex<Held>>() + 2 * size_of::<(Holder, usize)>();

impl Index {
    /// An empty index without a ceiling on its memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty index that takes at most that much heap, in bytes; less than 32 KiB counts
    /// as that, and 0 as no ceiling.
    ///
    /// Near the ceiling the least recently matched ends of chains of the largest
    /// holders go first; [`Stats::evicted`] counts them.
    pub fn with_ceiling(bytes: usize) -> Self {
        let ceiling = if bytes == 0 { 0 } else { bytes.max(LEAST_CEILING) };
        let core = Core { ceiling, ..Core::default() };
        Self { core, ..Self::default() }
    }

    /// Records that `holder` stored this chain of blocks on `tier`, behind `parent`, or
    /// from the start of a prompt where there is none.
    ///
    /// `seed` is the hash seed of the local hashes. A chain whose parent the holder has
    /// on no tier is kept aside until that comes, under the same seed. An error changes
    /// nothing.
    pub fn store(
        &self,
        holder: Holder,
        tier: Tier,
        parent: Option<EngineHash>,
        seed: u64,
        blocks: &[Block],
    ) -> Result<Stored, StoreError> {
        if blocks.is_empty() {
            return Ok(Stored::default());
        }
        self.make_room(holder, tier, blocks.len())?;
        let stored =
            self.with_new(holder, |held| held.store(tier, parent, seed, blocks, &self.core));
        self.keep_below();
        stored
    }

    /// Records that `holder` has these blocks on `tier` too, of which it has each on
    /// another one: some engines name no tokens when they copy blocks.
    ///
    /// Those that it has nowhere are left out of the counts.
    pub fn hold(&self, holder: Holder, tier: Tier, engines: &[EngineHash]) -> Stored {
        if self.make_room(holder, tier, engines.len()).is_err() {
            return Stored::default();
        }
        let held = self.with(holder, |held| held.hold(tier, engines, &self.core));
        self.keep_below();
        held.unwrap_or_default()
    }

    /// The seed that a held block was stored under.
    ///
    /// Engines name the cache salt with the first block of a prompt only; the
    /// chains behind it inherit it by asking for their parent's.
    pub fn seed(&self, holder: Holder, engine: EngineHash) -> Option<u64> {
        self.holders.read().get(&holder)?.lock().seed(engine, &self.core)
    }

    /// Records that `holder` dropped one copy of each of these blocks from `tier`.
    pub fn remove(&self, holder: Holder, tier: Tier, engines: &[EngineHash]) -> Dropped {
        let dropped = self.with(holder, |held| held.remove(tier, engines, &self.core));
        // A hole takes a bitmap.
        self.keep_below();
        dropped.unwrap_or(Dropped { unknown: engines.len(), ..Dropped::default() })
    }

    /// Forgets everything that `holder` has on any tier, that waits or is predicted;
    /// how many blocks it had.
    pub fn clear(&self, holder: Holder) -> usize {
        self.with(holder, |held| held.clear(&self.core)).unwrap_or(0)
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

    /// Expects that `holder` will have these leading blocks of a prompt on its device,
    /// until `expires`, in any unit of time that [`Self::expire`] is told too.
    ///
    /// How many of them it has not; 0 as well where the ceiling leaves no room. A
    /// store takes the place of what it was predicted to bring.
    pub fn predict(&self, holder: Holder, locals: &[u64], expires: u64) -> usize {
        if locals.is_empty() || self.make_room(holder, Tier::Device, locals.len()).is_err() {
            return 0;
        }
        let predicted = self.with_new(holder, |held| held.predict(locals, expires, &self.core));
        self.keep_below();
        predicted
    }

    /// Lets go of a holder's predictions beyond that many blocks: of those that expire
    /// first, and of them the deepest, as an engine that is full would. How many those were.
    pub fn trim_predicted(&self, holder: Holder, most: usize) -> usize {
        self.with(holder, |held| held.trim_predicted(most, &self.core)).unwrap_or(0)
    }

    /// How many blocks `holder` is predicted to have beside those that it has.
    pub fn predicted(&self, holder: Holder) -> usize {
        self.holders.read().get(&holder).map_or(0, |held| held.lock().predicted())
    }

    /// Lets go of predictions whose time has come.
    pub fn expire(&self, now: u64) {
        let holders: Vec<Holder> = self.holders.read().keys().copied().collect();
        for holder in holders {
            self.with(holder, |held| held.expire(now, &self.core));
        }
    }

    /// Every holder of at least the first of these blocks, in no particular order.
    pub fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        let mut matches = Matches::new();
        self.find(local, |_| false, &mut matches);
        matches.iter().collect()
    }

    /// The same into memory that the caller keeps, and only until it has `enough`:
    /// that is asked wherever chains part.
    pub fn find(&self, local: &[u64], enough: impl FnMut(Progress) -> bool, matches: &mut Matches) {
        self.core.tree.read().find(local, enough, matches);
    }

    /// The answers to many queries at once, into as many elements of `matches`.
    pub fn find_many(&self, queries: &[&[u64]], matches: &mut Vec<Matches>) {
        /// Queries that are answered before a writer gets its turn.
        const TURN: usize = 8;
        matches.resize_with(queries.len(), Matches::new);
        for (queries, matches) in queries.chunks(TURN).zip(matches.chunks_mut(TURN)) {
            let tree = self.core.tree.read();
            for (query, matches) in queries.iter().zip(matches) {
                tree.find(query, |_| false, matches);
            }
        }
    }

    /// How many distinct blocks `holder` has on `tier`.
    pub fn blocks(&self, holder: Holder, tier: Tier) -> usize {
        self.holders.read().get(&holder).map_or(0, |held| held.lock().blocks(tier))
    }

    /// Sizes, from counters: cheap.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            bytes: self.core.bytes(),
            evicted: self.core.evicted.load(Ordering::Relaxed),
            lost: self.core.lost.load(Ordering::Relaxed),
            ..Stats::default()
        };
        let holders = self.holders.read();
        for held in holders.values() {
            let held = held.lock();
            let blocks = Tier::ALL.map(|tier| held.blocks(tier)).iter().sum::<usize>();
            stats.holders += usize::from(blocks > 0);
            stats.holder_blocks += blocks;
            stats.aside += held.waiting();
        }
        stats.nodes = self.core.tree.read().len();
        stats
    }

    /// Recomputes every count and link from the others; the first contradiction.
    ///
    /// Stops all events meanwhile, and costs in proportion to the whole index.
    pub fn audit(&self) -> Result<(), String> {
        let holders = self.holders.write();
        let tree = self.core.tree.read();
        let (mut blocks, mut numbers, mut bytes) = (HashMap::new(), HashMap::new(), 0);
        let mut predicted = 0;
        for (&holder, held) in holders.iter() {
            let held = held.lock();
            if held.is_empty() {
                return Err(format!("{holder:?} has nothing but is listed"));
            }
            if tree.numbers.holder(held.number()) != Some(holder) {
                return Err(format!("{holder:?} has another's number"));
            }
            held.audit(&tree, &mut blocks)?;
            bytes += held.heap() + HOLDER;
            predicted += held.predicted();
            numbers.insert(held.number(), holder);
        }
        if bytes != self.core.held.load(Ordering::Relaxed) {
            return Err(format!("the holders take {bytes} bytes, counted {:?}", self.core.held));
        }
        for id in tree.reachable()? {
            for cover in tree.node(id).covers.iter() {
                if cover.seat.kind() == PREDICTED {
                    let held = numbers.get(&cover.seat.number()).and_then(|one| holders.get(one));
                    predicted -= held
                        .and_then(|held| held.lock().expects(&tree, id))
                        .ok_or_else(|| format!("node {id} has predictions that nobody made"))?;
                    continue;
                }
                let bound = blocks.remove(&(id, cover.seat)).unwrap_or(0);
                let held = cover.held().count();
                if bound as usize != held {
                    return Err(format!(
                        "node {id} has {held} blocks of {:?}, which binds {bound}",
                        cover.seat
                    ));
                }
            }
        }
        if predicted != 0 {
            return Err(format!("{predicted} blocks are predicted and nowhere"));
        }
        Ok(())
    }

    /// Does something with what a holder has, if it has anything, and strikes it off
    /// the list if that is nothing then.
    pub(crate) fn with<T>(&self, holder: Holder, how: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let (done, empty) = {
            let holders = self.holders.read();
            let mut held = holders.get(&holder)?.lock();
            let before = held.heap();
            let done = how(&mut held);
            self.core.count(before, held.heap());
            (done, held.is_empty())
        };
        if empty {
            let mut holders = self.holders.write();
            // It may have stored again by now.
            let gone = holders.get(&holder).is_some_and(|held| held.lock().is_empty());
            if gone && let Some(held) = holders.remove(&holder) {
                let held = held.lock();
                self.core.count(held.heap() + HOLDER, 0);
                self.core.tree.write().numbers.remove(held.number());
            }
        }
        Some(done)
    }

    /// The same with a holder that has nothing yet.
    fn with_new<T>(&self, holder: Holder, how: impl Fn(&mut Held) -> T) -> T {
        loop {
            if let Some(done) = self.with(holder, &how) {
                return done;
            }
            self.holders.write().entry(holder).or_insert_with(|| {
                self.core.count(0, HOLDER);
                Box::new(Mutex::new(Held::new(self.core.tree.write().numbers.add(holder))))
            });
        }
    }
}
