//! A split pattern → an automaton over character classes (see `split`).
//!
//! The byte automaton comes from regex-automata. Its states between characters are
//! found by walking whole characters from the start; those between bytes of one are
//! tabulated by blocks of 64 continuation bytes, so that all of Unicode costs a few
//! thousand steps per state. Then states that behave alike are merged (Moore), and
//! characters that no state tells apart become one class.

use std::collections::HashMap;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::ast;

use super::{CompileError, pages, unsupported};
use crate::split::{ANY_LOOP, LOOP_SHIFT, LOOPS, MATCH, STAGE_DROP, STATE, TAIL};

/// The tail that split patterns share and that is not regular.
const LOOKAHEAD: &str = r"|\s+(?!\S)|\s+";
const MAX_STATES: usize = 4096;

/// The two sections of a stage.
pub(super) struct Stage {
    pub(super) classes: Vec<u8>,
    pub(super) transitions: Vec<u8>,
}

/// Compiles a pattern; `drop` says that text outside matches is dropped.
pub(super) fn build(pattern: &str, drop: bool) -> Result<Stage, CompileError> {
    let patterns = match pattern.strip_suffix(LOOKAHEAD) {
        Some(rest) => vec![rest, r"\s+"],
        None => vec![pattern],
    };
    for part in &patterns {
        check(part, pattern)?;
    }
    let refuse = |error: &dyn std::fmt::Display| {
        unsupported(format!("the split pattern {pattern:?} ({error})"))
    };
    let dfa = dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::LeftmostFirst)
                .start_kind(StartKind::Anchored)
                .determinize_size_limit(Some(512 << 20))
                .dfa_size_limit(Some(512 << 20)),
        )
        .thompson(thompson::Config::new().shrink(false))
        .build_many(&patterns)
        .map_err(|error| refuse(&error))?;
    let characters = Characters::walk(&dfa).map_err(|error| refuse(&error))?;
    let classes = characters.reduce();
    if classes.is_quadratic() {
        return Err(refuse(&"it may read long runs once per character"));
    }
    classes.write(drop).map_err(|error| refuse(&error))
}

/// Refuses what regex-syntax reads otherwise than the library's engine, or what an
/// automaton cannot say.
fn check(part: &str, whole: &str) -> Result<(), CompileError> {
    let refuse = |why: &str| unsupported(format!("the split pattern {whole:?} ({why})"));
    let parsed = ast::parse::Parser::new()
        .parse(part)
        .map_err(|error| refuse(&format!("look-around or other syntax: {}", error.kind())))?;
    if has_stacked_repetition(&parsed) {
        // `a++` is possessive there and a repeated repetition here.
        return Err(refuse("possessive repetition"));
    }
    let hir = regex_syntax::parse(part).map_err(|error| refuse(&error.to_string()))?;
    if !hir.properties().look_set().is_empty() {
        return Err(refuse("an anchor or word boundary"));
    }
    if hir.properties().minimum_len() == Some(0) {
        return Err(refuse("it matches the empty string"));
    }
    Ok(())
}

fn has_stacked_repetition(ast: &ast::Ast) -> bool {
    match ast {
        ast::Ast::Repetition(repetition) => {
            matches!(*repetition.ast, ast::Ast::Repetition(_))
                || has_stacked_repetition(&repetition.ast)
        }
        ast::Ast::Group(group) => has_stacked_repetition(&group.ast),
        ast::Ast::Alternation(all) => all.asts.iter().any(has_stacked_repetition),
        ast::Ast::Concat(all) => all.asts.iter().any(has_stacked_repetition),
        _ => false,
    }
}

/// What follows a prefix of a character: a state for each last byte, or a further block
/// for each middle byte. Blocks are interned; equal ids mean equal behaviour.
type Block = [u32; 64];

/// The automaton over characters, states not yet reduced: for each state its 128 ASCII
/// successors and its successors by page of 64 code points. State 0 is dead.
struct Characters {
    /// 0 no match, 1 the pattern, 2 the tail.
    accepts: Vec<u8>,
    ascii: Vec<[u32; 128]>,
    /// Block of states per page, by state; index into `blocks`.
    pages: Vec<Vec<u32>>,
    blocks: Vec<Block>,
}

struct Walker<'d> {
    dfa: &'d dense::DFA<Vec<u32>>,
    numbers: HashMap<StateID, u32>,
    states: Vec<StateID>,
    blocks: Vec<Block>,
    interned: HashMap<Block, u32>,
    /// Block of a state one byte before a character's end.
    tabulated: HashMap<StateID, u32>,
}

impl Walker<'_> {
    fn number(&mut self, state: StateID) -> u32 {
        if self.dfa.is_dead_state(state) {
            return 0;
        }
        *self.numbers.entry(state).or_insert_with(|| {
            self.states.push(state);
            self.states.len() as u32 - 1
        })
    }

    fn block(&mut self, before: StateID) -> u32 {
        if let Some(block) = self.tabulated.get(&before) {
            return *block;
        }
        let mut block = [0; 64];
        for (low, successor) in block.iter_mut().enumerate() {
            let state = self.dfa.next_state(before, 0x80 | low as u8);
            *successor = self.number(state);
        }
        let next = self.blocks.len() as u32;
        let id = *self.interned.entry(block).or_insert_with(|| {
            self.blocks.push(block);
            next
        });
        self.tabulated.insert(before, id);
        id
    }

    /// The block of each page, for the characters that leave `from`.
    fn pages_from(&mut self, from: StateID) -> Vec<u32> {
        let mut pages = Vec::with_capacity(crate::charmap::PAGES);
        let dfa = self.dfa;
        // Pages 0 and 1 are ASCII, read elsewhere; the block of the dead state is 0.
        pages.extend([0, 0]);
        for lead in 0xC2..=0xDFu8 {
            pages.push(self.block(dfa.next_state(from, lead)));
        }
        for page in 0x800 / 64..0x1_0000 / 64u32 {
            let lead = dfa.next_state(from, 0xE0 | (page >> 6) as u8);
            pages.push(self.block(dfa.next_state(lead, 0x80 | (page & 63) as u8)));
        }
        for page in 0x1_0000 / 64..0x11_0000 / 64u32 {
            let lead = dfa.next_state(from, 0xF0 | (page >> 12) as u8);
            let second = dfa.next_state(lead, 0x80 | (page >> 6 & 63) as u8);
            pages.push(self.block(dfa.next_state(second, 0x80 | (page & 63) as u8)));
        }
        pages
    }
}

impl Characters {
    fn walk(dfa: &dense::DFA<Vec<u32>>) -> Result<Characters, String> {
        let start = dfa
            .start_state_forward(&Input::new("").anchored(Anchored::Yes))
            .map_err(|error| error.to_string())?;
        let dead = StateID::ZERO;
        let mut walker = Walker {
            dfa,
            numbers: HashMap::new(),
            states: vec![dead],
            blocks: vec![[0; 64]],
            interned: HashMap::from([([0; 64], 0)]),
            tabulated: HashMap::from([(dead, 0)]),
        };
        walker.number(start);
        let (mut accepts, mut ascii, mut pages) = (vec![0], vec![[0; 128]], vec![Vec::new()]);
        pages[0] = vec![0; crate::charmap::PAGES];
        let mut done = 1;
        while done < walker.states.len() {
            if walker.states.len() > MAX_STATES {
                return Err("more than 4096 states".into());
            }
            let state = walker.states[done];
            let end = dfa.next_eoi_state(state);
            accepts.push(match dfa.is_match_state(end) {
                true if dfa.match_pattern(end, 0).as_usize() == 0 => 1,
                true => 2,
                false => 0,
            });
            let mut row = [0; 128];
            for (byte, successor) in row.iter_mut().enumerate() {
                *successor = walker.number(dfa.next_state(state, byte as u8));
            }
            ascii.push(row);
            pages.push(walker.pages_from(state));
            done += 1;
        }
        Ok(Characters { accepts, ascii, pages, blocks: walker.blocks })
    }

    /// Classes of characters, then states that behave alike merged, then classes again.
    fn reduce(&self) -> Classes {
        let states = self.accepts.len();
        // A column is what a character does to each state.
        let mut known: HashMap<Vec<u32>, u16> = HashMap::new();
        let mut columns: Vec<Vec<u32>> = Vec::new();
        let mut class_of = |column: Vec<u32>| {
            *known.entry(column).or_insert_with_key(|column| {
                columns.push(column.clone());
                columns.len() as u16 - 1
            })
        };
        let mut classes = vec![0u16; 0x11_0000];
        for (code, class) in classes.iter_mut().enumerate().take(128) {
            *class = class_of((0..states).map(|state| self.ascii[state][code]).collect());
        }
        let mut pages: HashMap<Vec<u32>, Vec<u16>> = HashMap::new();
        for page in 2..crate::charmap::PAGES {
            let blocks: Vec<u32> = (0..states).map(|state| self.pages[state][page]).collect();
            let content = pages.entry(blocks).or_insert_with_key(|blocks| {
                let column = |low: usize| -> Vec<u32> {
                    blocks.iter().map(|block| self.blocks[*block as usize][low]).collect()
                };
                (0..64).map(|low| class_of(column(low))).collect()
            });
            classes[page * 64..][..64].copy_from_slice(content);
        }
        let group = self.equivalent(&columns);
        // The groups' own numbers, in order of first appearance: dead 0, start 1.
        let mut representative: Vec<usize> = Vec::new();
        for (state, own) in group.iter().enumerate() {
            if *own as usize == representative.len() {
                representative.push(state);
            }
        }
        let mut known: HashMap<Vec<u32>, u16> = HashMap::new();
        let mut reduced: Vec<Vec<u32>> = Vec::new();
        let renamed: Vec<u16> = columns
            .iter()
            .map(|column| {
                let column: Vec<u32> =
                    representative.iter().map(|state| group[column[*state] as usize]).collect();
                *known.entry(column).or_insert_with_key(|column| {
                    reduced.push(column.clone());
                    reduced.len() as u16 - 1
                })
            })
            .collect();
        Classes {
            of: classes.iter().map(|class| renamed[usize::from(*class)]).collect(),
            columns: reduced,
            accepts: representative.iter().map(|state| self.accepts[*state]).collect(),
        }
    }

    /// The group of each state, by refinement until nothing splits any more.
    fn equivalent(&self, columns: &[Vec<u32>]) -> Vec<u32> {
        let states = self.accepts.len();
        let mut group: Vec<u32> = self.accepts.iter().map(|a| u32::from(*a)).collect();
        let mut count = 0;
        loop {
            let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
            let refined: Vec<u32> = (0..states)
                .map(|state| {
                    let mut behaviour = vec![group[state]];
                    behaviour.extend(columns.iter().map(|column| group[column[state] as usize]));
                    let next = known.len() as u32;
                    *known.entry(behaviour).or_insert(next)
                })
                .collect();
            group = refined;
            if known.len() == count {
                return group;
            }
            count = known.len();
        }
    }
}

/// The reduced automaton; state 0 is dead, state 1 the start.
pub(super) struct Classes {
    /// Class of each code point.
    of: Vec<u16>,
    /// By class, then state: the successor.
    pub(super) columns: Vec<Vec<u32>>,
    /// 0 no match, 1 the pattern, 2 the tail.
    pub(super) accepts: Vec<u8>,
}

impl Classes {
    fn write(&self, drop: bool) -> Result<Stage, String> {
        let (classes, states) = (self.columns.len(), self.accepts.len());
        if classes > 256 || states > usize::from(STATE) {
            return Err(format!("{states} states of {classes} classes are too many"));
        }
        let shift = classes.next_power_of_two().trailing_zeros();
        let flags = if drop { STAGE_DROP } else { 0 };
        let (letters, map) = self.words();
        let mut transitions = Vec::new();
        for word in [shift, flags, states as u32, letters] {
            transitions.extend(word.to_le_bytes());
        }
        transitions.extend(map);
        let stays: Vec<[u8; 256]> = (0..states).map(|state| self.stays(state)).collect();
        transitions.extend(stays.as_flattened());
        let step = |to: usize| {
            let accepts = match self.accepts[to] {
                0 => 0,
                1 => MATCH,
                _ => TAIL,
            };
            (to as u16 | loop_kind(&stays[to]) << LOOP_SHIFT | accepts).to_le_bytes()
        };
        for state in 0..states {
            transitions.extend((0..128).flat_map(|byte| step(self.next(state, byte))));
        }
        for state in 0..states {
            for class in 0..1usize << shift {
                let to = self.columns.get(class).map_or(0, |column| column[state]) as usize;
                transitions.extend(step(to));
            }
        }
        Ok(Stage { classes: pages::write(|code| self.of[code as usize] as u8), transitions })
    }

    /// Where an ASCII byte leads.
    pub(super) fn next(&self, state: usize, byte: u8) -> usize {
        self.columns[usize::from(self.of[usize::from(byte)])][state] as usize
    }

    /// The ASCII bytes that lead from a state to itself.
    fn stays(&self, state: usize) -> [u8; 256] {
        let mut stays = [0; 256];
        for (byte, stay) in stays.iter_mut().enumerate().take(128) {
            *stay = u8::from(state != 0 && self.next(state, byte as u8) == state);
        }
        stays
    }
}

fn loop_kind(stays: &[u8; 256]) -> u16 {
    if stays.iter().all(|stay| *stay == 0) {
        return 0;
    }
    let is = |(set, from, to): &(u8, u8, u8)| {
        (0..=255u8).all(|byte| {
            let inside = byte.is_ascii() && (*from..=*to).contains(&(byte | set));
            inside == (stays[usize::from(byte)] != 0)
        })
    };
    LOOPS.iter().position(is).map_or(ANY_LOOP, |place| place as u16 + 1)
}
