//! What a routing decision will soon cause: blocks that a holder does not have yet.
//!
//! They lie in the same tree under a seat of their own, so one query sees both, and
//! have no engine hashes, since nobody knows those yet. The real event takes the
//! prediction's place; what does not come is let go at its time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::run::{CHUNK, Place};
use crate::seat::Seat;
use crate::sync::RwLock;
use crate::tree::{Laid, Tree};

/// What an entry of the map takes, with its share of a node that is two thirds full.
const ENTRY: usize = 3 * size_of::<((u32, u64), u32)>() / 2;

/// When a chunk's predictions expire, how deep in their prompt they lie, and the chunk.
/// The greatest is the next to go: the earliest, and of those the deepest, for a chain
/// that loses its head is of no more use.
type Due = (Reverse<u64>, u32, u32);

/// The predictions of one holder.
#[derive(Debug, Default)]
pub(crate) struct Predicted {
    /// Which places of a chunk expire at a time; each place at one only, the latest.
    places: BTreeMap<(u32, u64), u32>,
    /// The next to expire, with those that were prolonged since: as many for a chunk as it
    /// was given times that have not passed.
    queue: BinaryHeap<Due>,
    blocks: usize,
}

impl Predicted {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn heap(&self) -> usize {
        self.places.len() * ENTRY + self.queue.capacity() * size_of::<Due>()
    }

    /// Predicted blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Remembers when to let go of what was laid `depth` blocks deep; how many blocks are
    /// predicted.
    pub(crate) fn add(&mut self, laid: &[Laid], mut depth: u32, expires: u64) -> usize {
        let mut blocks = 0;
        for laid in laid {
            depth += laid.len;
            let (chunk, places) = places(laid, !laid.had);
            blocks += places.count_ones() as usize;
            let later = self.places.range((chunk, expires)..=(chunk, u64::MAX));
            let later = later.fold(0, |later, (_, places)| later | places);
            let places = places & !later;
            if places == 0 {
                continue;
            }
            self.take(chunk, places);
            let known = self.places.entry((chunk, expires)).or_default();
            if *known == 0 {
                self.queue.push((Reverse(expires), depth, chunk));
            }
            *known |= places;
            self.blocks += places.count_ones() as usize;
        }
        blocks
    }

    /// Forgets what has come.
    pub(crate) fn came(&mut self, laid: &[Laid]) {
        if self.places.is_empty() {
            return;
        }
        for laid in laid {
            let (chunk, places) = places(laid, u32::MAX);
            self.take(chunk, places);
        }
        if self.places.is_empty() {
            *self = Self::default();
        }
    }

    fn take(&mut self, chunk: u32, places: u32) {
        let known = self.places.range_mut((chunk, 0)..=(chunk, u64::MAX));
        let mut empty = Vec::new();
        for (&key, known) in known {
            self.blocks -= (*known & places).count_ones() as usize;
            *known &= !places;
            if *known == 0 {
                empty.push(key);
            }
        }
        for key in empty {
            self.places.remove(&key);
        }
    }

    /// Lets go of what should have come before `now`.
    pub(crate) fn expire(&mut self, now: u64, seat: Seat, tree: &RwLock<Tree>) {
        while self.queue.peek().is_some_and(|(Reverse(expires), ..)| *expires <= now) {
            self.let_go(seat, tree);
        }
        if self.places.is_empty() {
            *self = Self::default();
        }
    }

    /// Lets go of those that expire first until there are no more than that many; how
    /// many blocks those were.
    pub(crate) fn trim(&mut self, most: usize, seat: Seat, tree: &RwLock<Tree>) -> usize {
        let before = self.blocks;
        while self.blocks > most && !self.queue.is_empty() {
            self.let_go(seat, tree);
        }
        let gone = before - self.blocks;
        if self.places.is_empty() {
            *self = Self::default();
        }
        gone
    }

    /// Lets go of the next to expire.
    fn let_go(&mut self, seat: Seat, tree: &RwLock<Tree>) {
        let Some((Reverse(expires), _, chunk)) = self.queue.pop() else { return };
        if let Some(places) = self.places.remove(&(chunk, expires)) {
            self.blocks -= places.count_ones() as usize;
            release(chunk, places, seat, tree);
        }
    }

    pub(crate) fn clear(&mut self, seat: Seat, tree: &RwLock<Tree>) {
        for ((chunk, _), places) in std::mem::take(self).places {
            release(chunk, places, seat, tree);
        }
    }

    /// Whether a predicted place will be let go some time.
    pub(crate) fn knows(&self, place: Place) -> bool {
        let chunk = place / CHUNK;
        let mut known = self.places.range((chunk, 0)..=(chunk, u64::MAX));
        known.any(|(_, places)| places >> (place % CHUNK) & 1 == 1)
    }
}

/// The chunk of what was laid, and which places of it, of those of the mask.
fn places(laid: &Laid, mask: u32) -> (u32, u32) {
    let all = ((1_u64 << laid.len) - 1) as u32;
    (laid.place / CHUNK, (all & mask) << (laid.place % CHUNK))
}

/// The last first, so that a chain is cut back and not cut up.
fn release(chunk: u32, mut places: u32, seat: Seat, tree: &RwLock<Tree>) {
    let mut tree = tree.write();
    while places != 0 {
        let end = 32 - places.leading_zeros();
        let len = (places << (32 - end)).leading_ones();
        tree.release(seat, chunk * CHUNK + end - len, len);
        places &= ((1_u64 << (end - len)) - 1) as u32;
    }
}
