//! Pieces of more than 64 symbols: words without end, runs of one character, text of
//! models that do not split it.
//!
//! A sequence of tokens is the encoding of its text exactly if each two neighbours are
//! the encoding of theirs: the first merge that crosses a border would cross it in the
//! pair as well, for it depends on these two tokens only. So a long piece is merged in
//! windows: all but the tail of a window's tokens are kept, and the next window begins
//! with the last one kept, its anchor. If that comes out again, the new neighbours are
//! neighbours in an encoding of their text, and so are the old ones. Where it does not,
//! the window doubles and begins earlier, until it gets past the trouble. A window keeps
//! three quarters of its tokens or more, so that the cost stays in proportion to what is
//! kept: that of short pieces, whatever the length. Text that repeats its last tokens is
//! not merged at all.
//!
//! Rejected: one heap over the whole piece (exact too, but its working set leaves the
//! caches: 5–20× slower for half a megabyte); windows that begin behind what is kept,
//! and an encoding of the two tokens at each seam (a tenth of the time).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::merge::{Merges, NONE, WINDOW, Window};
use crate::runs::Runs;
use crate::table::{FLAG_CHARS, View};

/// Symbols at a window's end whose tokens may still join what follows.
const TAIL: usize = 6;
/// A window with fewer runs than this is merged as runs…
const FEW_RUNS: usize = 8;
/// …of which then so many are taken, however long.
const RUNS: usize = 16;
/// Tokens that are looked for again among as many before them.
const PERIOD: usize = 4;
/// Symbols that are at hand at least, if the piece has them: of a long run so many are
/// taken at a time.
const AHEAD: usize = 16 << 10;

/// A long piece being encoded: its tokens so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Long {
    /// Of a piece of characters, the symbols of its first `read` bytes.
    symbols: Vec<u32>,
    read: usize,
    /// Tokens kept so far, and where each begins.
    kept: Vec<(u32, u32)>,
    /// Where what is kept ends, and how many symbols the next window has.
    from: usize,
    size: usize,
    /// Where an anchor did not hold: the next window must get past it.
    trouble: usize,
}

/// Working memory of the merging of windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merger {
    /// Symbols of a piece of characters, or of a window of bytes.
    pub(crate) symbols: Vec<u32>,
    /// Tokens of the window at hand.
    window: Vec<(u32, u32)>,
    small: Window,
    runs: Runs,
    heap: Heap,
}

/// What a piece is made of.
#[derive(Copy, Clone)]
enum Piece<'p> {
    Bytes(&'p [u8]),
    Chars(&'p [u32]),
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Chars(symbols) => symbols.len(),
        }
    }

    /// Appends the symbols from `from` to `to`.
    fn read(&self, view: &View<'_>, from: usize, to: usize, symbols: &mut Vec<u32>) {
        match self {
            Piece::Bytes(bytes) => {
                let bytes = bytes.get(from..to).unwrap_or_default();
                symbols.extend(bytes.iter().map(|byte| view.byte_id(*byte)));
            }
            Piece::Chars(all) => symbols.extend(all.get(from..to).unwrap_or_default()),
        }
    }

    /// How many symbols from `at` on are those that stand `width` before them.
    fn repeats(&self, at: usize, width: usize) -> usize {
        fn same<T: PartialEq>(all: &[T], at: usize, width: usize) -> usize {
            let (back, here) = (all.get(at.saturating_sub(width)..), all.get(at..));
            let pairs = back.unwrap_or_default().iter().zip(here.unwrap_or_default());
            pairs.take_while(|(back, here)| back == here).count()
        }
        match self {
            Piece::Bytes(bytes) => same(bytes, at, width),
            Piece::Chars(symbols) => same(symbols, at, width),
        }
    }

    /// Whether fewer than so many runs are from `from` to `to`.
    fn has_few_runs(&self, from: usize, to: usize) -> bool {
        fn borders<T: PartialEq>(all: &[T], from: usize, to: usize) -> usize {
            let (left, right) = (all.get(from..to), all.get(from + 1..to));
            let pairs = left.unwrap_or_default().iter().zip(right.unwrap_or_default());
            pairs.map(|(left, right)| usize::from(left != right)).sum()
        }
        let borders = match self {
            Piece::Bytes(bytes) => borders(bytes, from, to),
            Piece::Chars(symbols) => borders(symbols, from, to),
        };
        borders + 1 < FEW_RUNS
    }
}

impl Long {
    /// Forgets the last piece.
    pub(crate) fn restart(&mut self) {
        self.symbols.clear();
        self.kept.clear();
        (self.read, self.from, self.size, self.trouble) = (0, 0, WINDOW, 0);
    }

    /// Whether nothing of the piece has been looked at.
    pub(crate) fn is_new(&self) -> bool {
        self.from == 0 && self.size == WINDOW
    }

    /// Goes on with the piece, the same at every call, until `left` symbols have been
    /// merged; takes them off it. At the piece's end its ids are appended,
    /// and the answer is true.
    pub(crate) fn go(
        &mut self,
        view: &View<'_>,
        merger: &mut Merger,
        piece: &[u8],
        left: &mut usize,
        ids: &mut Vec<u32>,
    ) -> bool {
        let chars = view.has(FLAG_CHARS);
        loop {
            if chars {
                self.read_on(view, piece, self.from.saturating_add(self.size.max(AHEAD)));
            }
            let whole = !chars || self.read == piece.len();
            let piece = if chars { Piece::Chars(&self.symbols) } else { Piece::Bytes(piece) };
            let (total, size) = (piece.len(), self.size);
            if self.from >= total {
                break;
            }
            if *left == 0 {
                return false;
            }
            let anchor = self.kept.last().copied();
            let from = anchor.map_or(0, |(_, start)| start as usize);
            // A wide anchor must not fill the window.
            let width = self.from - from;
            let to = from.saturating_add(size + if 2 * width > size { width } else { 0 });
            let to = merger.merge(view, piece, from, total.min(to));
            *left = left.saturating_sub(to.saturating_sub(self.from).max(1));
            let window = &mut merger.window;
            let behind = usize::from(anchor.is_some());
            let next = window.get(behind).map_or(to, |(_, start)| *start as usize);
            let holds = anchor.is_none() || window.first() == anchor.as_ref() && next == self.from;
            if !holds {
                self.trouble = self.trouble.max(self.from);
                // One token earlier, and a window that sees more.
                self.size = size.saturating_mul(2);
                self.kept.pop();
                self.from = from;
                if whole && size >= total {
                    self.kept.clear();
                    self.from = 0;
                }
                continue;
            }
            if whole && to == total {
                self.kept.extend(window.drain(..).skip(behind));
                break;
            }
            let tail = if to - from <= WINDOW { TAIL } else { (to - from) / 4 };
            let border = to.saturating_sub(tail) as u32;
            let keep = window.partition_point(|(_, start)| *start < border);
            let keep = keep.min(window.len().saturating_sub(1));
            let next = window.get(keep).map_or(to, |(_, start)| *start as usize);
            if keep <= behind || next <= self.trouble {
                self.size = size.saturating_mul(2);
                continue;
            }
            self.size = WINDOW;
            self.trouble = 0;
            self.kept.extend(window.drain(..keep).skip(behind));
            self.from = repeat(&mut self.kept, piece, next);
            *left = left.saturating_sub((self.from - next) / 16);
        }
        ids.extend(self.kept.iter().map(|(id, _)| *id));
        true
    }

    /// Makes symbols of the piece's characters until there are so many, or all.
    fn read_on(&mut self, view: &View<'_>, piece: &[u8], many: usize) {
        let missing = many.saturating_sub(self.symbols.len());
        if missing > 0 && self.read < piece.len() {
            let rest = piece.get(self.read..).unwrap_or_default();
            self.read += char_symbols(view, rest, missing, &mut self.symbols);
        }
    }
}

/// Goes on with the last tokens for as long as the text repeats itself, if they are those
/// before them once more: then they are neighbours of each other already. Gives where
/// that ends.
fn repeat(kept: &mut Vec<(u32, u32)>, piece: Piece<'_>, mut end: usize) -> usize {
    let ids = |from: usize, many: usize| kept.iter().skip(from).take(many).map(|(id, _)| id);
    let most = PERIOD.min(kept.len() / 2);
    let again = |many: &usize| {
        let (last, before) = (kept.len() - many, kept.len() - 2 * many);
        ids(last, *many).eq(ids(before, *many))
    };
    let Some(period) = (1..=most).find(again) else { return end };
    let mut at = kept.len() - period;
    let width = end.saturating_sub(kept.get(at).map_or(end, |(_, start)| *start as usize));
    // What follows may change the last ones.
    let until = (end + piece.repeats(end, width)).saturating_sub(width);
    while let Some(&(id, start)) = kept.get(at) {
        let behind = kept.get(at + 1).map_or(end, |(_, start)| *start as usize);
        let next = end + behind.saturating_sub(start as usize);
        if next > until {
            break;
        }
        kept.push((id, end as u32));
        end = next;
        at += 1;
    }
    end
}

impl Merger {
    /// Merges the symbols from `from` to `to`, or further where they are long runs; says
    /// to where.
    fn merge(&mut self, view: &View<'_>, piece: Piece<'_>, from: usize, to: usize) -> usize {
        let Merger { symbols, window, small, runs, heap } = self;
        window.clear();
        let token = |id, at: usize| window.push((id, (from + at) as u32));
        let len = to - from;
        if len >= WINDOW && piece.has_few_runs(from, to) {
            symbols.clear();
            piece.read(view, from, piece.len().min(to.max(from + AHEAD)), symbols);
            let covered = runs.fill(symbols, RUNS);
            if runs.merge(&view.merges) {
                runs.tokens(token);
                return from + covered;
            }
        }
        match piece {
            Piece::Bytes(bytes) if len <= WINDOW => {
                let bytes = bytes.get(from..to).unwrap_or_default();
                small.fill_bytes(&view.merges, bytes, |byte| view.byte_id(byte));
            }
            Piece::Chars(all) if len <= WINDOW => {
                small.fill(&view.merges, all.get(from..to).unwrap_or_default());
            }
            _ => {
                symbols.clear();
                piece.read(view, from, to, symbols);
                heap.merge(&view.merges, symbols, token);
                return to;
            }
        }
        small.merge(&view.merges, token);
        to
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
