//! Which blocks of one node one seat has.
//!
//! Engines evict tail first and store from the front, so this is nearly always a
//! number of leading blocks. What lies behind a hole is a bitmap that exists only
//! while there is one.

use std::ops::Range;

use crate::seat::Seat;

/// The blocks of a node that a seat has; offsets count from the node's start.
#[derive(Debug)]
pub(crate) struct Cover {
    pub(crate) seat: Seat,
    lead: u32,
    /// Held blocks behind the first hole. Never empty, never the block at `lead`.
    rest: Option<Box<Bits>>,
}

#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
}

impl Bits {
    fn has(&self, at: u32) -> bool {
        self.words.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: u32) {
        let word = at as usize / 64;
        if self.words.len() <= word {
            self.words.reserve_exact(word + 1 - self.words.len());
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: u32) {
        if let Some(word) = self.words.get_mut(at as usize / 64) {
            *word &= !(1 << (at % 64));
        }
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    fn end(&self) -> u32 {
        match self.words.last() {
            Some(word) => self.words.len() as u32 * 64 - word.leading_zeros(),
            None => 0,
        }
    }
}

impl Cover {
    pub(crate) fn nothing(seat: Seat) -> Self {
        Self { seat, lead: 0, rest: None }
    }

    /// Leading blocks without a hole.
    pub(crate) fn lead(&self) -> u32 {
        self.lead
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lead == 0 && self.rest.is_none()
    }

    pub(crate) fn has(&self, at: u32) -> bool {
        at < self.lead || self.rest.as_ref().is_some_and(|rest| rest.has(at))
    }

    /// The first block from `at` on that is not held.
    pub(crate) fn hole(&self, at: u32) -> u32 {
        if at < self.lead || self.rest.is_none() {
            return at.max(self.lead);
        }
        (at..).find(|&at| !self.has(at)).unwrap_or(at)
    }

    /// One behind the last held block.
    pub(crate) fn end(&self) -> u32 {
        self.rest.as_ref().map_or(self.lead, |rest| rest.end())
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = u32> {
        let behind = self.lead..self.end();
        (0..self.lead).chain(behind.filter(|&at| self.has(at)))
    }

    /// Those of up to 32 blocks that are held, as bits.
    pub(crate) fn mask(&self, range: Range<u32>) -> u32 {
        let leading = self.lead.saturating_sub(range.start).min(range.len() as u32);
        let mask = ((1_u64 << leading) - 1) as u32;
        match &self.rest {
            None => mask,
            Some(rest) => range
                .clone()
                .filter(|&at| rest.has(at))
                .fold(mask, |mask, at| mask | 1 << (at - range.start)),
        }
    }

    pub(crate) fn heap(&self) -> usize {
        let words = |rest: &Bits| size_of::<Bits>() + rest.words.capacity() * size_of::<u64>();
        self.rest.as_ref().map_or(0, |rest| words(rest))
    }

    /// Adds these blocks.
    pub(crate) fn set_range(&mut self, range: Range<u32>) {
        if range.start <= self.lead && self.rest.is_none() {
            self.lead = self.lead.max(range.end);
        } else {
            range.for_each(|at| self.set(at));
        }
    }

    fn set(&mut self, at: u32) {
        if self.has(at) {
            return;
        }
        if at > self.lead {
            self.rest.get_or_insert_default().set(at);
            return;
        }
        self.lead += 1;
        if let Some(mut rest) = self.rest.take() {
            while rest.has(self.lead) {
                rest.clear(self.lead);
                self.lead += 1;
            }
            self.keep(rest);
        }
    }

    /// Takes these blocks away.
    pub(crate) fn clear_range(&mut self, range: Range<u32>) {
        if self.rest.is_none() && range.end >= self.lead {
            self.lead = self.lead.min(range.start);
        } else {
            range.for_each(|at| self.clear(at));
        }
    }

    fn clear(&mut self, at: u32) {
        if at < self.lead {
            let behind = at + 1..std::mem::replace(&mut self.lead, at);
            if !behind.is_empty() {
                let rest = self.rest.get_or_insert_default();
                behind.rev().for_each(|at| rest.set(at));
            }
        } else if let Some(mut rest) = self.rest.take() {
            rest.clear(at);
            self.keep(rest);
        }
    }

    /// Keeps the blocks before `at`; what there was from `at` on.
    pub(crate) fn split_off(&mut self, at: u32) -> Self {
        let mut tail = Self { lead: self.lead.saturating_sub(at), ..Self::nothing(self.seat) };
        self.lead = self.lead.min(at);
        if let Some(mut rest) = self.rest.take() {
            for held in at..rest.end() {
                if rest.has(held) {
                    tail.set(held - at);
                }
            }
            rest.words.truncate((at as usize).div_ceil(64));
            if let Some(last) = rest.words.get_mut(at as usize / 64) {
                *last &= (1 << (at % 64)) - 1;
            }
            rest.clear(at);
            self.keep(rest);
        }
        tail
    }

    /// Adds the blocks of `tail`, whose node begins at `at` of this one's.
    pub(crate) fn append(&mut self, at: u32, tail: &Self) {
        if self.lead == at && tail.rest.is_none() {
            self.lead += tail.lead;
        } else {
            tail.held().for_each(|held| self.set(at + held));
        }
    }

    fn keep(&mut self, rest: Box<Bits>) {
        self.rest = (rest.end() > 0).then_some(rest);
    }

    /// Whether the two parts are in the one form that they should have.
    pub(crate) fn is_normal(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| {
            rest.end() > self.lead + 1 && (0..=self.lead).all(|at| !rest.has(at))
        })
    }
}
