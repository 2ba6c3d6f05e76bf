//! Who has blocks, as the tree knows it: a number for each holder and kind of claim.
//!
//! The tree sorts by it, four bytes instead of a holder's eight and the tier's one,
//! and the seats of one holder stand side by side.

use crate::{Holder, Tier};

/// A holder's number and the kind of its claim.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub(crate) struct Seat(u32);

/// What a claim rests on: a tier's events, or a prediction.
pub(crate) const PREDICTED: u32 = 3;
const KINDS: u32 = 4;

/// Holders that there are numbers for.
const HOLDERS: usize = (u32::MAX / KINDS) as usize;

impl Seat {
    pub(crate) fn new(number: u32, tier: Tier) -> Self {
        Self(number * KINDS + tier as u32)
    }

    pub(crate) fn predicted(number: u32) -> Self {
        Self(number * KINDS + PREDICTED)
    }

    /// The holder's number.
    pub(crate) fn number(self) -> u32 {
        self.0 / KINDS
    }

    pub(crate) fn kind(self) -> u32 {
        self.0 % KINDS
    }
}

/// The holders' numbers; those given back are given out again.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    holders: Vec<Option<Holder>>,
    free: Vec<u32>,
}

impl Numbers {
    /// A number for a holder that has none.
    pub(crate) fn add(&mut self, holder: Holder) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            debug_assert!(self.holders.len() < HOLDERS, "a holder costs more than its number");
            self.holders.push(None);
            (self.holders.len() - 1) as u32
        });
        self.holders[number as usize] = Some(holder);
        number
    }

    pub(crate) fn remove(&mut self, number: u32) {
        self.holders[number as usize] = None;
        self.free.push(number);
        if self.free.len() == self.holders.len() {
            *self = Self::default();
        }
    }

    pub(crate) fn holder(&self, number: u32) -> Option<Holder> {
        self.holders.get(number as usize).copied().flatten()
    }

    pub(crate) fn heap(&self) -> usize {
        self.holders.capacity() * size_of::<Option<Holder>>()
            + self.free.capacity() * size_of::<u32>()
    }
}
