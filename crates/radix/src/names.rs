//! The engine hashes themselves, and the places that they name.
//!
//! In pieces of eight places that follow each other: an event names a stretch of a
//! chain, so what it writes and what a later one compares lies together, and the place
//! is said once for eight. A name's number is that of its piece and its position there.
//! A place with several names is in as many pieces.
//!
//! Rejected: pieces of a whole chunk of 32 (most of one would be empty where engines
//! store a block at a time and go on elsewhere), a map from places to pieces (the store's
//! parent leads to the piece that is not full yet).

use crate::EngineHash;
use crate::run::Place;

/// Names of a piece: a cache line.
const PIECE: u32 = 8;
const NONE: u32 = u32::MAX;

/// Piece and position.
pub(crate) type NameId = u32;

#[derive(Copy, Clone, Debug)]
struct Mark {
    /// The first place, by eights; of a free piece the next free one.
    places: u32,
    /// Which names there are.
    used: u8,
}

#[derive(Debug)]
pub(crate) struct Names {
    pieces: Vec<[u64; PIECE as usize]>,
    marks: Vec<Mark>,
    /// The first free piece.
    free: u32,
    in_use: u32,
    /// The piece that was last written to.
    open: u32,
}

impl Default for Names {
    fn default() -> Self {
        Self { pieces: Vec::new(), marks: Vec::new(), free: NONE, in_use: 0, open: NONE }
    }
}

impl Names {
    const BYTES: usize = size_of::<[u64; PIECE as usize]>() + size_of::<Mark>();

    pub(crate) fn heap(&self) -> usize {
        self.pieces.capacity() * size_of::<[u64; PIECE as usize]>()
            + self.marks.capacity() * size_of::<Mark>()
    }

    /// What the heap may be while that many names are added, beyond what it is.
    pub(crate) fn growth(&self, more: usize) -> usize {
        let needed = self.in_use as usize + more;
        if needed <= self.pieces.capacity() {
            return 0;
        }
        needed.max(self.grown()) * Self::BYTES
    }

    fn grown(&self) -> usize {
        self.pieces.len() + self.pieces.len() / 8 + 4
    }

    /// The next names follow that one.
    pub(crate) fn follow(&mut self, id: NameId) {
        self.open = id / PIECE;
    }

    #[inline]
    pub(crate) fn add(&mut self, key: EngineHash, place: Place) -> NameId {
        let (places, at) = (place / PIECE, place % PIECE);
        let goes_on = self.marks.get(self.open as usize).is_some_and(|mark| {
            mark.places == places && mark.used != 0 && mark.used >> at & 1 == 0
        });
        if !goes_on {
            self.open = self.piece(places);
        }
        self.pieces[self.open as usize][at as usize] = key.0;
        self.marks[self.open as usize].used |= 1 << at;
        self.open * PIECE + at
    }

    #[inline(never)]
    fn piece(&mut self, places: u32) -> u32 {
        self.in_use += 1;
        if self.free != NONE {
            let piece = self.free;
            let mark = &mut self.marks[piece as usize];
            self.free = mark.places;
            mark.places = places;
            return piece;
        }
        if self.pieces.len() == self.pieces.capacity() {
            let more = self.grown() - self.pieces.len();
            self.pieces.reserve_exact(more);
            self.marks.reserve_exact(more);
        }
        self.pieces.push([0; PIECE as usize]);
        self.marks.push(Mark { places, used: 0 });
        (self.pieces.len() - 1) as u32
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: NameId) {
        let mark = &mut self.marks[(id / PIECE) as usize];
        mark.used &= !(1 << (id % PIECE));
        if mark.used == 0 {
            mark.places = self.free;
            self.free = id / PIECE;
            self.in_use -= 1;
        }
    }

    #[inline]
    pub(crate) fn key(&self, id: NameId) -> u64 {
        self.pieces[(id / PIECE) as usize][(id % PIECE) as usize]
    }

    #[inline]
    pub(crate) fn place(&self, id: NameId) -> Place {
        self.marks[(id / PIECE) as usize].places * PIECE + id % PIECE
    }

    /// All names, those of neighbouring places together.
    pub(crate) fn iter(&self) -> impl Iterator<Item = NameId> {
        let used = |(piece, mark): (u32, &Mark)| {
            let used = mark.used;
            (0..PIECE).filter(move |at| used >> at & 1 == 1).map(move |at| piece * PIECE + at)
        };
        (0..).zip(&self.marks).flat_map(used)
    }

    /// Whether most of it is free.
    pub(crate) fn is_sparse(&self) -> bool {
        self.in_use as usize * 2 + 8 < self.pieces.capacity()
    }

    /// What the heap takes beyond what it is while free pieces are given back.
    pub(crate) fn compacting(&self) -> usize {
        (self.in_use as usize + self.in_use as usize / 8 + 4) * Self::BYTES
    }

    /// Gives free pieces back; the others' numbers change.
    pub(crate) fn compact(&mut self) {
        let mut kept = 0;
        for piece in 0..self.pieces.len() {
            if self.marks[piece].used != 0 {
                self.pieces[kept] = self.pieces[piece];
                self.marks[kept] = self.marks[piece];
                kept += 1;
            }
        }
        self.pieces.truncate(kept);
        self.marks.truncate(kept);
        let room = self.grown();
        self.pieces.shrink_to(room);
        self.marks.shrink_to(room);
        (self.free, self.open) = (NONE, NONE);
    }

    /// Whether the free pieces are those without names.
    pub(crate) fn audit(&self) -> bool {
        let (mut free, mut at) = (0, self.free);
        while let Some(mark) = self.marks.get(at as usize)
            && mark.used == 0
            && free <= self.marks.len()
        {
            free += 1;
            at = mark.places;
        }
        let empty = self.marks.iter().filter(|mark| mark.used == 0).count();
        at == NONE && free == empty && self.marks.len() - empty == self.in_use as usize
    }
}
