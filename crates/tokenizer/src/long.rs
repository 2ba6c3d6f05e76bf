//! Pieces of more than 64 symbols: words without end, runs of one character, text of
//! models that do not split it.
//!
//! A sequence of tokens is the encoding of its text exactly if each two neighbours are
//! the encoding of theirs: the first merge that crosses a border would cross it in the
//! pair as well, for it depends on these two tokens only. So a long piece is merged in
//! windows: all but the tail of a window's tokens are kept, the next window begins
//! where they end, and the one new pair of neighbours is checked by encoding it alone.
//! Where the check fails, the window doubles and begins earlier, until it gets past the
//! trouble. A window keeps three quarters of its tokens or more, so that the cost stays
//! in proportion to what is kept: that of short pieces, whatever the length.
//!
//! Rejected: one heap over the whole piece (exact too, but its working set leaves the
//! caches: 5–20× slower for half a megabyte).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::merge::{self, Merges, NONE, WINDOW, Window};
use crate::runs::Runs;
use crate::table::{FLAG_CHARS, FLAG_MONOTONE, View};

/// Symbols at a window's end whose tokens may still join what follows.
const TAIL: usize = 6;
/// A window with fewer runs than this is merged as runs…
const FEW_RUNS: usize = 8;
/// …of which then so many are taken, however long.
const RUNS: usize = 16;
/// Symbols that are at hand at least, if the piece has them: of a long run so many are
/// taken at a time.
const AHEAD: usize = 16 << 10;

/// A long piece being encoded: its tokens so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Long {
    /// The symbols of the piece's first `read` bytes.
    symbols: Vec<u32>,
    read: usize,
    /// Tokens kept so far, and where each begins.
    kept: Vec<(u32, u32)>,
    /// Where the next window begins, and how many symbols it has.
    from: usize,
    size: usize,
    /// Where a seam did not hold: the next window must get past it.
    trouble: usize,
}

/// Working memory of the merging of windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merger {
    /// Symbols of a piece of characters.
    pub(crate) symbols: Vec<u32>,
    /// Tokens of the window at hand.
    window: Vec<(u32, u32)>,
    small: Window,
    runs: Runs,
    heap: Heap,
    /// Pairs of tokens whose seams held, by hash: text that repeats itself has few.
    seams: Seams,
}

#[derive(Clone, Debug)]
struct Seams(Vec<u64>);

impl Default for Seams {
    fn default() -> Self {
        Seams(vec![NO_SEAM; SEAMS])
    }
}

const SEAMS: usize = 1024;
const NO_SEAM: u64 = u64::MAX;

impl Long {
    /// Forgets the last piece.
    pub(crate) fn restart(&mut self) {
        self.symbols.clear();
        self.kept.clear();
        (self.read, self.from, self.size, self.trouble) = (0, 0, WINDOW, 0);
    }

    pub(crate) fn is_new(&self) -> bool {
        self.read == 0
    }

    /// Goes on with the piece, for about `left` symbols; at its end its ids are appended,
    /// and the answer is true.
    pub(crate) fn go(
        &mut self,
        view: &View<'_>,
        merger: &mut Merger,
        piece: &[u8],
        left: &mut usize,
        ids: &mut Vec<u32>,
    ) -> bool {
        let bytes = if view.has(FLAG_CHARS) { None } else { Some(piece) };
        loop {
            let (from, size) = (self.from, self.size);
            self.read_on(view, piece, from.saturating_add(size.max(AHEAD)));
            let total = self.symbols.len();
            let whole = self.read == piece.len();
            if from >= total {
                break;
            }
            if *left == 0 {
                return false;
            }
            let to = total.min(from.saturating_add(size));
            let to = merger.merge(view, bytes, &self.symbols, from, to);
            *left = left.saturating_sub(to - from);
            if !merger.seam_holds(view, bytes, &self.symbols, self.kept.last(), from, to) {
                if whole && size >= total {
                    self.kept.clear();
                }
                // One token earlier, and a window that sees more.
                self.size = size.saturating_mul(2);
                self.trouble = self.trouble.max(from);
                self.from = self.kept.pop().map_or(0, |(_, start)| start as usize);
                continue;
            }
            let window = &mut merger.window;
            if whole && to == total {
                self.kept.append(window);
                break;
            }
            let tail = if to - from <= WINDOW { TAIL } else { (to - from) / 4 };
            let border = to.saturating_sub(tail) as u32;
            let keep = window.partition_point(|(_, start)| *start < border);
            let keep = keep.min(window.len().saturating_sub(1));
            let next = window.get(keep).map_or(to, |(_, start)| *start as usize);
            if keep == 0 || next <= self.trouble {
                self.size = size.saturating_mul(2);
                continue;
            }
            self.from = next;
            self.size = WINDOW;
            self.trouble = 0;
            self.kept.extend(window.drain(..keep));
        }
        ids.extend(self.kept.iter().map(|(id, _)| *id));
        true
    }

    /// Makes symbols of the piece until there are so many, or all.
    fn read_on(&mut self, view: &View<'_>, piece: &[u8], many: usize) {
        let missing = many.saturating_sub(self.symbols.len());
        if missing == 0 || self.read == piece.len() {
            return;
        }
        let rest = piece.get(self.read..).unwrap_or_default();
        if view.has(FLAG_CHARS) {
            self.read += char_symbols(view, rest, missing, &mut self.symbols);
        } else {
            let bytes = rest.get(..missing).unwrap_or(rest);
            self.symbols.extend(bytes.iter().map(|byte| view.byte_id(*byte)));
            self.read += bytes.len();
        }
    }
}

impl Merger {
    /// Merges the symbols from `from` to `to`, or further where they are long runs; says
    /// to where.
    fn merge(
        &mut self,
        view: &View<'_>,
        bytes: Option<&[u8]>,
        all: &[u32],
        from: usize,
        to: usize,
    ) -> usize {
        self.window.clear();
        let window = &mut self.window;
        let token = |id, at: usize| window.push((id, (from + at) as u32));
        let Some(symbols) = all.get(from..to) else { return to };
        let few = symbols.len() >= WINDOW && view.has(FLAG_MONOTONE);
        if few && self.runs.fill(symbols, FEW_RUNS) == symbols.len() {
            let rest = all.get(from..).unwrap_or_default();
            let covered = self.runs.fill(rest, RUNS);
            if covered >= symbols.len() {
                self.runs.merge(&view.merges, token);
                return from + covered;
            }
        }
        if symbols.len() > WINDOW {
            self.heap.merge(&view.merges, symbols, token);
            return to;
        }
        match bytes.and_then(|bytes| bytes.get(from..to)) {
            Some(bytes) => self.small.fill_bytes(&view.merges, bytes, |byte| view.byte_id(byte)),
            None => self.small.fill(&view.merges, symbols),
        }
        self.small.merge(&view.merges, token);
        to
    }

    /// Whether the last kept token and the window's first are neighbours in an encoding.
    fn seam_holds(
        &mut self,
        view: &View<'_>,
        bytes: Option<&[u8]>,
        all: &[u32],
        last: Option<&(u32, u32)>,
        from: usize,
        to: usize,
    ) -> bool {
        let (Some(&last), Some(&first)) = (last, self.window.first()) else {
            return true;
        };
        let pair = merge::pair(last.0, first.0);
        let place = merge::hash(pair) as usize % SEAMS;
        if self.seams.0.get(place) == Some(&pair) {
            return true;
        }
        let end = self.window.get(1).map_or(to, |(_, start)| *start as usize);
        let start = last.1 as usize;
        let Some(symbols) = all.get(start..end) else { return true };
        let mut tokens = [(0, 0); 2];
        let mut count = 0;
        let token = |id, at| {
            if let Some(slot) = tokens.get_mut(count) {
                *slot = (id, at);
            }
            count += 1;
        };
        if view.has(FLAG_MONOTONE) && self.runs.fill(symbols, FEW_RUNS) == symbols.len() {
            self.runs.merge(&view.merges, token);
        } else if symbols.len() <= WINDOW {
            match bytes.and_then(|bytes| bytes.get(start..end)) {
                Some(bytes) => {
                    self.small.fill_bytes(&view.merges, bytes, |byte| view.byte_id(byte))
                }
                None => self.small.fill(&view.merges, symbols),
            }
            self.small.merge(&view.merges, token);
        } else {
            self.heap.merge(&view.merges, symbols, token);
        }
        let holds = count == 2 && tokens == [(last.0, 0), (first.0, from - start)];
        if holds && let Some(seam) = self.seams.0.get_mut(place) {
            *seam = pair;
        }
        holds
    }
}

/// Appends a symbol for each character that is a token, its bytes' fallback tokens for
/// others, `most` characters; says how many bytes they have.
pub(crate) fn char_symbols(
    view: &View<'_>,
    text: &[u8],
    most: usize,
    symbols: &mut Vec<u32>,
) -> usize {
    let mut at = 0;
    for _ in 0..most {
        let Some(&lead) = text.get(at) else { break };
        let width = match lead {
            0..=0xBF => 1,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            _ => 4,
        };
        // A character cut short is none of UTF-8's.
        let end = text.len().min(at + width);
        let Some(bytes) = text.get(at..end) else { break };
        match view.vocab.find(bytes) {
            Some(hit) => symbols.push(hit.id),
            None => symbols.extend(bytes.iter().map(|byte| view.byte_id(*byte))),
        }
        at = end;
    }
    at
}

/// Merging by a heap of `(rank, position)`, for windows beyond the small one.
#[derive(Clone, Debug, Default)]
struct Heap {
    symbols: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    queue: BinaryHeap<Reverse<u64>>,
}

/// No neighbour, or a symbol that has become part of another.
const GONE: u32 = u32::MAX;

impl Heap {
    fn offer(&mut self, merges: &Merges<'_>, at: u32) {
        let read = |array: &[u32], at: u32| array.get(at as usize).copied().unwrap_or(GONE);
        let (left, right) = (read(&self.symbols, at), read(&self.symbols, read(&self.next, at)));
        if left == GONE || right == GONE {
            return;
        }
        let rank = merges.rank(left, right);
        if rank != NONE {
            self.queue.push(Reverse(u64::from(rank) << 32 | u64::from(at)));
        }
    }

    fn merge(&mut self, merges: &Merges<'_>, symbols: &[u32], mut token: impl FnMut(u32, usize)) {
        let len = symbols.len() as u32;
        self.symbols.clear();
        self.symbols.extend_from_slice(symbols);
        self.next.clear();
        self.next.extend(1..=len);
        self.previous.clear();
        self.previous.extend((0..len).map(|at| at.wrapping_sub(1)));
        self.queue.clear();
        for at in 0..len {
            self.offer(merges, at);
        }
        while let Some(Reverse(entry)) = self.queue.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            let read = |array: &[u32], at: u32| array.get(at as usize).copied().unwrap_or(GONE);
            let dead = read(&self.next, at);
            let (left, right) = (read(&self.symbols, at), read(&self.symbols, dead));
            // Stale: one of the two has been merged with another since.
            if left == GONE || right == GONE || merges.rank(left, right) != rank {
                continue;
            }
            let after = read(&self.next, dead);
            if let Some(symbol) = self.symbols.get_mut(at as usize) {
                *symbol = merges.merged(rank);
            }
            if let Some(symbol) = self.symbols.get_mut(dead as usize) {
                *symbol = GONE;
            }
            if let Some(next) = self.next.get_mut(at as usize) {
                *next = after;
            }
            if let Some(previous) = self.previous.get_mut(after as usize) {
                *previous = at;
            }
            self.offer(merges, at);
            let before = read(&self.previous, at);
            if before != GONE {
                self.offer(merges, before);
            }
        }
        for (at, symbol) in self.symbols.iter().enumerate() {
            if *symbol != GONE {
                token(*symbol, at);
            }
        }
    }
}
