//! The pre-tokenizer's split patterns, as small automata over character classes.
//!
//! At compile time the pattern becomes a byte automaton (regex-automata, leftmost
//! first), and that an automaton over characters: two characters are of one class if
//! no state tells them apart. A pattern of tens of alternatives and all of Unicode's
//! letters comes down to some 30 states × 20 classes, which stay in the first-level
//! cache. Words are loops: a state that ASCII letters lead back to has their run measured
//! eight bytes at a time without a branch (which a word's end would mispredict), and
//! other states' loops go by a map of the bytes that stay. Plain ASCII words go by a
//! shortcut that the compiler has shown to be the same (see `word`).
//!
//! The usual tail `|\s+(?!\S)|\s+` cannot be an automaton, but it means: a run of white
//! space gives its last character back, unless the text ends there or it is the only
//! one. The second of the two patterns that the automaton tells apart is that run.
//!
//! Rejected: regex-automata's own dense tables (1.4–2.1 MB a pattern, a dependency in
//! the VM, a class lookup per byte of each character), sparse ones (5× slower), and
//! scanners by hand (fast, but one per family: nothing for the next model's pattern).

use crate::charmap::{CharMap, char_start};
use crate::normalize::SPACE;
use crate::word::{MAP, Words};

/// A transition holds the next state's number in its low bits…
pub(crate) const STATE: u16 = 0x07FF;
/// …which ASCII bytes lead from it to itself…
pub(crate) const LOOP_SHIFT: u32 = 11;
const LOOP: u16 = 7;
/// …whether the pattern matches up to here…
pub(crate) const MATCH: u16 = 0x4000;
/// …or only its white-space tail does.
pub(crate) const TAIL: u16 = 0x8000;
/// Words at the head of a stage: log2 of a row's length, flags, states, letters of the
/// shortcut. Then the shortcut's map, the states' loops, 256 bytes each, their rows of
/// transitions by ASCII byte, and those by class.
pub(crate) const STAGE_HEADER: usize = 16;
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
    words: Words<'t>,
    classes: CharMap<'t>,
    loops: &'t [[u8; 256]],
    ascii: &'t [[[u8; 2]; 128]],
    transitions: &'t [[u8; 2]],
    shift: u32,
    drop: bool,
}

impl<'t> Splitter<'t> {
    pub(crate) const EMPTY: Splitter<'static> = Splitter {
        words: Words::NONE,
        classes: CharMap::EMPTY,
        loops: &[],
        ascii: &[],
        transitions: &[],
        shift: 0,
        drop: false,
    };

    /// A stage over its sections; from broken ones nothing matches.
    pub(crate) fn new(classes: &'t [u8], stage: &'t [u8]) -> Self {
        Self::read(classes, stage).unwrap_or(Self::EMPTY)
    }

    fn read(classes: &'t [u8], stage: &'t [u8]) -> Option<Self> {
        let word = |at| crate::table::read_u32(stage, at);
        let states = word(8)? as usize;
        let (map, rest) = stage.get(STAGE_HEADER..)?.split_first_chunk::<MAP>()?;
        let (loops, rest) = rest.split_at_checked(states.checked_mul(256)?)?;
        let (ascii, rest) = rest.split_at_checked(states.checked_mul(256)?)?;
        Some(Splitter {
            words: Words::new(word(12)?, map),
            classes: CharMap::new(classes),
            loops: loops.as_chunks().0,
            ascii: ascii.as_chunks().0.as_chunks().0,
            transitions: rest.as_chunks().0,
            shift: word(0)? & 15,
            drop: word(4)? & STAGE_DROP != 0,
        })
    }

    /// Where the character at `at` leads from `state`, and its width.
    #[inline(always)]
    fn step(&self, text: &[u8], at: usize, state: usize) -> (u16, usize) {
        let byte = text.get(at).copied().unwrap_or(0);
        if byte.is_ascii() {
            let row = self.ascii.get(state);
            let step = row.and_then(|row| row.get(usize::from(byte)));
            return (step.map_or(0, |step| u16::from_le_bytes(*step)), 1);
        }
        let (class, width) = self.classes.class_at(text, at);
        let place = (state << self.shift) + usize::from(class);
        (self.transitions.get(place).map_or(0, |step| u16::from_le_bytes(*step)), width)
    }

    /// End of the match that starts at `start`, or `start` if there is none.
    #[inline(always)]
    fn match_at(&self, text: &[u8], start: usize, end: usize) -> usize {
        let rest = text.get(start..).unwrap_or_default();
        if let Some(word) = self.words.at_head(rest)
            && start + word < end
        {
            return start + word;
        }
        self.run_from(text, start, end)
    }

    #[inline(always)]
    fn run_from(&self, text: &[u8], start: usize, end: usize) -> usize {
        let mut state = usize::from(START);
        let mut at = start;
        let mut last = start;
        let mut tail = false;
        while at < end {
            let (step, width) = self.step(text, at, state);
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

    /// The next piece of the span: as (start, end), in order.
    #[inline(always)]
    pub(crate) fn next(&self, text: &[u8], span: &mut Span) -> Option<(usize, usize)> {
        while span.at < span.end {
            let stop = self.match_at(text, span.at, span.end);
            if stop == span.at {
                span.at += self.classes.class_at(text, span.at).1;
                continue;
            }
            let gap = std::mem::replace(&mut span.gap, span.at);
            if gap < span.at && !self.drop {
                // What matched is found again behind it.
                return Some((gap, span.at));
            }
            let start = std::mem::replace(&mut span.at, stop);
            span.gap = stop;
            return Some((start, stop));
        }
        let gap = std::mem::replace(&mut span.gap, span.end);
        (gap < span.end && !self.drop).then_some((gap, span.end))
    }
}

/// A stretch of text being cut into pieces.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Span {
    /// Everything before has been cut.
    pub(crate) at: usize,
    /// Where text that nothing has matched begins.
    gap: usize,
    end: usize,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span { at: start, gap: start, end }
    }

    /// The whole rest as one piece.
    pub(crate) fn take(&mut self) -> Option<(usize, usize)> {
        let start = std::mem::replace(&mut self.at, self.end);
        (start < self.end).then_some((start, self.end))
    }

    /// A piece up to the next `▁`, or run of them; `each` says which. It begins where the
    /// last one ended.
    pub(crate) fn take_to_space(&mut self, text: &[u8], each: bool) -> Option<(usize, usize)> {
        let (start, mut at) = (self.at, self.at);
        let space =
            |at: usize| text.get(at..).is_some_and(|rest| rest.starts_with(SPACE.as_bytes()));
        while at < self.end && space(at) {
            at += SPACE.len();
            if each {
                break;
            }
        }
        while at < self.end && !space(at) {
            at += 1;
        }
        self.at = at;
        (start < at).then_some((start, at))
    }
}
