//! The ceiling: what goes when the index would take more memory than it may.
//!
//! The least recently matched ends of chains of the largest holder, some at a time.
//! They are found among a sample of what it has, as key-value stores do: a list in
//! order of use would cost every query a write to it, and each block its place in it.

use std::sync::atomic::Ordering;

use hashbrown::HashSet;

use crate::held::Held;
use crate::index::{HOLDER, Index};
use crate::lane::Lane;
use crate::run::{CHUNK, Place};
use crate::seat::Seat;
use crate::table::BATCH;
use crate::tree::NodeId;
use crate::{EngineHash, Holder, StoreError, Tier};

/// Bindings that are looked at to find the least recently used.
const SAMPLE: usize = 1024;

/// What a block may take in the tree: its hash, its share of a chunk's address and
/// digest, an eighth of slack.
const BLOCK: usize = 10;
/// What a store mostly takes beyond its blocks at most: two nodes of a split, a run, pages
/// of the slabs, some holders' covers.
const STORE: usize = 16 << 10;

impl Index {
    /// Lets go of so much that a store of that many blocks stays below the ceiling.
    pub(crate) fn make_room(
        &self,
        holder: Holder,
        tier: Tier,
        blocks: usize,
    ) -> Result<(), StoreError> {
        if self.core.ceiling == 0 {
            return Ok(());
        }
        let needed = || {
            let holders = self.holders.read();
            let held = holders.get(&holder).map(|held| held.lock());
            let growth = held.map_or_else(
                || HOLDER + Lane::default().growth(blocks),
                |held| held.lane(tier).growth(blocks),
            );
            growth + blocks * BLOCK + STORE
        };
        self.shrink(needed)
    }

    /// Lets go of what a change took beyond the ceiling that nobody reckoned with: a map of
    /// many children that doubled, a split under thousands of holders.
    pub(crate) fn keep_below(&self) {
        // With nothing left the index is within any ceiling that it can be made with.
        let _ = self.shrink(|| 0);
    }

    /// Lets go of so much that what is `needed` fits below the ceiling.
    fn shrink(&self, needed: impl Fn() -> usize) -> Result<(), StoreError> {
        let ceiling = self.core.ceiling;
        if ceiling == 0 || self.core.fits(needed()) {
            return Ok(());
        }
        let _turn = self.evicting.lock();
        let mark = ceiling - ceiling / 64;
        loop {
            let excess = (self.core.bytes() + needed()).saturating_sub(mark);
            if excess == 0 {
                return Ok(());
            }
            let largest = self.largest();
            let evicted = largest
                .and_then(|largest| self.with(largest, |held| self.evict(held, excess / BLOCK + 1)))
                .unwrap_or(0);
            self.core.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
            if evicted == 0 && self.give_up_waiting() == 0 && self.give_up_predicted() == 0 {
                return Err(StoreError::Full);
            }
        }
    }

    /// Lets go of all predictions; how many blocks that was.
    fn give_up_predicted(&self) -> usize {
        let holders = self.holders();
        let give_up = |held: &mut Held| held.give_up_predicted(&self.core);
        holders.iter().filter_map(|&one| self.with(one, give_up)).sum()
    }

    /// Lets go of all chains that wait for their parents; how many blocks that was.
    fn give_up_waiting(&self) -> usize {
        let holders = self.holders();
        holders.iter().filter_map(|&one| self.with(one, |held| held.give_up(&self.core))).sum()
    }

    /// The holder with the most blocks.
    fn largest(&self) -> Option<Holder> {
        let holders = self.holders.read();
        let sizes = holders.iter().map(|(&holder, held)| {
            let held = held.lock();
            (Tier::ALL.iter().map(|&tier| held.blocks(tier)).sum::<usize>(), holder)
        });
        sizes.max().filter(|&(blocks, _)| blocks > 0).map(|(_, holder)| holder)
    }

    /// Takes about that many blocks, not more than an eighth, from the holder's largest
    /// tier; how many that was.
    fn evict(&self, held: &mut Held, most: usize) -> usize {
        let tier = Tier::ALL.into_iter().max_by_key(|&tier| held.blocks(tier));
        let tier = tier.unwrap_or_default();
        let seat = Seat::new(held.number(), tier);
        let (nodes, chunks) = self.oldest(held, tier, seat, most.min(held.blocks(tier) / 8 + 1));
        let near: Vec<(EngineHash, Place)> =
            held.lane(tier).names().filter(|slot| chunks.contains(&(slot.1 / CHUNK))).collect();
        let mut names = Vec::with_capacity(near.len());
        for near in near.chunks(BATCH) {
            let tree = self.core.tree.read();
            let is_there = |place| tree.runs().node(place).is_some_and(|at| nodes.contains(&at.0));
            names.extend(near.iter().filter(|slot| is_there(slot.1)).map(|slot| slot.0));
        }
        held.forget(tier, &names, &self.core)
    }

    /// The nodes of about that many blocks of a seat that were used least recently and
    /// have none of its blocks below them; and the chunks in which their places are.
    fn oldest(
        &self,
        held: &Held,
        tier: Tier,
        seat: Seat,
        most: usize,
    ) -> (HashSet<NodeId>, HashSet<u32>) {
        let start = self.core.evicted.load(Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        let sample: Vec<_> = held.lane(tier).sample(start as usize, SAMPLE).collect();
        let mut leaves = Vec::with_capacity(sample.len());
        for sample in sample.chunks(BATCH) {
            let tree = self.core.tree.read();
            leaves.extend(sample.iter().filter_map(|slot| tree.leaf(seat, slot.1)));
        }
        leaves.sort_by_key(|leaf| std::cmp::Reverse(leaf.0));
        let (mut nodes, mut chunks, mut blocks) = (HashSet::new(), HashSet::new(), 0);
        for (_, id) in leaves {
            if blocks >= most {
                break;
            }
            if nodes.insert(id) {
                blocks += self.core.tree.read().chunks_of(seat, id, &mut chunks);
            }
        }
        (nodes, chunks)
    }
}
