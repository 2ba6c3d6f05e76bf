//! The pre-tokenizer's split patterns, as small automata over character classes.
//!
//! At compile time the pattern becomes a byte automaton (regex-automata, leftmost
//! first), and that an automaton over characters: two characters are of one class if
//! no state tells them apart. A pattern of tens of alternatives and all of Unicode's
//! letters comes down to some 30 states × 20 classes, which stay in the first-level
//! cache. Words are loops: a state that ASCII letters lead back to has their run measured
//! eight bytes at a time without a branch (which a word's end would mispredict), and
//! other states' loops go by a map of the bytes that stay.
//!
//! The usual tail `|\s+(?!\S)|\s+` cannot be an automaton, but it means: a run of white
//! space gives its last character back, unless the text ends there or it is the only
//! one. The second of the two patterns that the automaton tells apart is that run.
//!
//! Rejected: regex-automata's own dense tables (1.4–2.1 MB a pattern, a dependency in
//! the VM, a class lookup per byte of each character), sparse ones (5× slower), and
//! scanners by hand (fast, but one per family: nothing for the next model's pattern).

use crate::charmap::{CharMap, char_start};

/// A transition holds the next state's number in its low bits…
pub(crate) const STATE: u16 = 0x07FF;
/// …which ASCII bytes lead from it to itself…
pub(crate) const LOOP_SHIFT: u32 = 11;
const LOOP: u16 = 7;
/// …whether the pattern matches up to here…
pub(crate) const MATCH: u16 = 0x4000;
/// …or only its white-space tail does.
pub(crate) const TAIL: u16 = 0x8000;
/// Words at the head of a stage: log2 of a row's length, flags, states. Then the states'
/// loops, 256 bytes each, then their rows of transitions.
pub(crate) const STAGE_HEADER: usize = 12;
/// A state's loop: a range of bytes after setting the bits of a mask, by number; 0 is
/// none, beyond the list is any set of bytes, looked up.
pub(crate) const LOOPS: [(u8, u8, u8); 3] = [(0x20, b'a', b'z'), (0, b'a', b'z'), (0, b'A', b'Z')];
/// Number of the loops that are looked up.
#[cfg(feature = "compile")]
pub(crate) const ANY_LOOP: u16 = LOOPS.len() as u16 + 1;
/// State 0 is the dead one.
pub(crate) const START: u16 = 1;
/// What no match covers is dropped, not kept as a piece.
pub(crate) const STAGE_DROP: u32 = 1;

/// How many of a word's first bytes are in the range.
#[inline(always)]
fn head(word: u64, (set, from, to): (u8, u8, u8)) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let seven = (word | (u64::from(set) * ONES)) & !HIGH;
    let from_on = seven + u64::from(0x80 - from) * ONES;
    let beyond = seven + u64::from(0x7F - to) * ONES;
    let outside = !(from_on & !beyond & !word) & HIGH;
    outside.trailing_zeros() as usize / 8
}

#[inline(always)]
fn stay(stays: &[u8; 256], byte: u8) -> bool {
    stays.get(usize::from(byte)).is_some_and(|stay| *stay != 0)
}

#[derive(Copy, Clone)]
pub(crate) struct Splitter<'t> {
    classes: CharMap<'t>,
    loops: &'t [[u8; 256]],
    transitions: &'t [[u8; 2]],
    shift: u32,
    drop: bool,
}

impl<'t> Splitter<'t> {
    pub(crate) const EMPTY: Splitter<'static> =
        Splitter { classes: CharMap::EMPTY, loops: &[], transitions: &[], shift: 0, drop: false };

    pub(crate) fn new(classes: &'t [u8], stage: &'t [u8]) -> Self {
        let word = |at| crate::table::read_u32(stage, at).unwrap_or(0);
        let rest = stage.get(STAGE_HEADER..).unwrap_or_default();
        let states = word(8) as usize;
        let (loops, transitions) =
            rest.split_at_checked(states.saturating_mul(256)).unwrap_or_default();
        Splitter {
            classes: CharMap::new(classes),
            loops: loops.as_chunks().0,
            transitions: transitions.as_chunks().0,
            shift: word(0) & 15,
            drop: word(4) & STAGE_DROP != 0,
        }
    }

    /// End of the match that starts at `start`, or `start` if there is none.
    #[inline(always)]
    fn match_at(&self, text: &[u8], start: usize, end: usize) -> usize {
        let mut state = usize::from(START);
        let mut at = start;
        let mut last = start;
        let mut tail = false;
        while at < end {
            let (class, width) = self.classes.class_at(text, at);
            let place = (state << self.shift) + usize::from(class);
            let Some(step) = self.transitions.get(place) else { break };
            let step = u16::from_le_bytes(*step);
            if step == 0 {
                break;
            }
            at += width;
            state = usize::from(step & STATE);
            let kind = step >> LOOP_SHIFT & LOOP;
            if kind != 0 {
                at += self.run(kind, state, text.get(at..end).unwrap_or_default());
            }
            if step & (MATCH | TAIL) != 0 {
                last = at;
                tail = step & TAIL != 0;
            }
        }
        if tail && last < end {
            let given_back = char_start(text, last);
            if given_back > start {
                last = given_back;
            }
        }
        last.min(end)
    }

    /// How many bytes at the head of `rest` lead from the state to itself.
    #[inline(always)]
    fn run(&self, kind: u16, state: usize, rest: &[u8]) -> usize {
        let Some(range) = LOOPS.get(usize::from(kind - 1)) else {
            let Some(stays) = self.loops.get(state) else { return 0 };
            return rest.iter().take_while(|byte| stay(stays, **byte)).count();
        };
        let (words, tail) = rest.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            let run = head(u64::from_le_bytes(*word), *range);
            if run < 8 {
                return 8 * i + run;
            }
        }
        let (set, from, to) = *range;
        let stay = |byte: &&u8| (from..=to).contains(&(**byte | set));
        8 * words.len() + tail.iter().take_while(stay).count()
    }

    /// Calls `piece` for each piece of `text[start..end]`, in order.
    #[inline(always)]
    pub(crate) fn pieces(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        mut piece: impl FnMut(usize, usize),
    ) {
        let mut at = start;
        let mut gap = start;
        while at < end {
            let stop = self.match_at(text, at, end);
            if stop == at {
                at += self.classes.class_at(text, at).1;
                continue;
            }
            if gap < at && !self.drop {
                piece(gap, at);
            }
            piece(at, stop);
            at = stop;
            gap = stop;
        }
        if gap < end && !self.drop {
            piece(gap, end);
        }
    }
}
