//! Added and special tokens inside text, as Hugging Face's library finds them: at each
//! place, from the left, the longest token; then its flags.
//!
//! A trie behind a search for first bytes. Up to three bytes that start them all (`<` for
//! most models, `<` and `[` for others) are searched for by `memchr`, many bytes at a time.
//! Rejected: failure links; they save rereading what a partial match had read, which no
//! real token set repeats more than a few bytes of, and cost a state per byte of all text.

use crate::charmap::{CharMap, char_start};
use crate::segment::{Cursor, Found, Segment};
use crate::table::read_u32;
use std::ops::RangeInclusive;

/// Nodes, edges and tokens counted (12 bytes), then how many first bytes there are and up
/// to three of them, or 4 and nothing where there are more.
pub(crate) const HEADER: usize = 16;
/// Node of each first byte, 256 words; 0 is none.
pub(crate) const ROOTS: usize = 1024;
/// More first bytes than are searched for at a time.
#[cfg(feature = "compile")]
pub(crate) const MANY: u8 = 4;
/// A node: first edge, edge count, token index + 1.
pub(crate) const NODE: usize = 12;
/// An edge: byte, node.
pub(crate) const EDGE: usize = 8;
/// A token: id, flags.
pub(crate) const TOKEN: usize = 8;

pub(crate) const SINGLE_WORD: u32 = 1;
pub(crate) const LSTRIP: u32 = 2;
pub(crate) const RSTRIP: u32 = 4;

#[derive(Copy, Clone)]
pub(crate) struct Added<'t> {
    firsts: [u8; 4],
    roots: &'t [[u8; 4]],
    nodes: &'t [[u8; NODE]],
    edges: &'t [[u8; EDGE]],
    tokens: &'t [[u8; TOKEN]],
}

struct Match {
    start: usize,
    end: usize,
    id: u32,
    flags: u32,
}

impl<'t> Added<'t> {
    const EMPTY: Added<'static> =
        Added { firsts: [0; 4], roots: &[], nodes: &[], edges: &[], tokens: &[] };

    /// The tokens of a section; an empty or broken one has none.
    pub(crate) fn new(section: &'t [u8]) -> Self {
        Self::read(section).unwrap_or(Self::EMPTY)
    }

    fn read(section: &'t [u8]) -> Option<Self> {
        let count = |at| read_u32(section, at).map(|n| n as usize);
        let take =
            |rest: &'t [u8], n: usize, size: usize| rest.split_at_checked(n.checked_mul(size)?);
        let rest = section.get(HEADER..)?;
        let (roots, rest) = rest.split_at_checked(ROOTS)?;
        let (nodes, rest) = take(rest, count(0)?, NODE)?;
        let (edges, rest) = take(rest, count(4)?, EDGE)?;
        let (tokens, _) = take(rest, count(8)?, TOKEN)?;
        Some(Added {
            firsts: read_u32(section, 12)?.to_le_bytes(),
            roots: roots.as_chunks().0,
            nodes: nodes.as_chunks().0,
            edges: edges.as_chunks().0,
            tokens: tokens.as_chunks().0,
        })
    }

    /// The next segment of `text` behind `cursor`. `word` classifies `\w`.
    #[inline]
    pub(crate) fn next(
        &self,
        text: &str,
        word: &CharMap<'_>,
        cursor: &mut Cursor,
    ) -> Option<Segment> {
        let done = cursor.done;
        let found = cursor.found.take().or_else(|| self.token(text, word, cursor));
        let (segment, end) = match found {
            Some(Found { id, start, end }) if start <= done => {
                (Segment::Added { id, start, end }, end)
            }
            Some(token) => {
                cursor.found = Some(token);
                (Segment::Text { start: done, end: token.start, first: done == 0 }, token.start)
            }
            None if done < text.len() => {
                (Segment::Text { start: done, end: text.len(), first: done == 0 }, text.len())
            }
            None => return None,
        };
        cursor.done = end;
        Some(segment)
    }

    /// The next token behind `cursor` that its flags let stand.
    fn token(&self, text: &str, word: &CharMap<'_>, cursor: &mut Cursor) -> Option<Found> {
        let (bytes, done) = (text.as_bytes(), cursor.done);
        while let Some(Match { start, end, id, flags }) = self.search(bytes, cursor.from) {
            cursor.from = end;
            if flags & SINGLE_WORD != 0 {
                let before = start > 0 && word.class_before(bytes, start) != 0;
                let after = end < bytes.len() && word.class_at(bytes, end).0 != 0;
                if before || after {
                    continue;
                }
            }
            let strip = |flag| flags & flag != 0;
            let start =
                if strip(LSTRIP) { spaces_before(bytes, start, done).max(done) } else { start };
            let end = match strip(RSTRIP) {
                // Behind a token that took this white space: read no space twice.
                true if end <= done => done,
                true => spaces_after(text, end),
                false => end,
            };
            return Some(Found { id, start, end });
        }
        cursor.from = bytes.len();
        None
    }

    fn search(&self, text: &[u8], from: usize) -> Option<Match> {
        let mut at = from;
        while at < text.len() {
            at = self.candidate(text, at)?;
            if let Some(found) = self.longest(text, at) {
                return Some(found);
            }
            at += 1;
        }
        None
    }

    /// The next place whose byte starts some token.
    fn candidate(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let found = match self.firsts {
            [0, ..] => None,
            [1, a, ..] => memchr::memchr(a, rest),
            [2, a, b, _] => memchr::memchr2(a, b, rest),
            [3, a, b, c] => memchr::memchr3(a, b, c, rest),
            _ => rest.iter().position(|byte| self.root(*byte) != 0),
        };
        found.map(|at| from + at)
    }

    #[inline]
    fn root(&self, byte: u8) -> u32 {
        self.roots.get(usize::from(byte)).map_or(0, |node| u32::from_le_bytes(*node))
    }

    fn longest(&self, text: &[u8], start: usize) -> Option<Match> {
        let mut best = None;
        let mut node = self.root(*text.get(start)?);
        let mut end = start + 1;
        while node != 0 {
            let bytes = self.nodes.get(node as usize)?;
            let token = read_u32(bytes, 8)?;
            if token != 0 {
                best = Some((end, token - 1));
            }
            let Some(byte) = text.get(end) else { break };
            node = self.follow(bytes, *byte).unwrap_or(0);
            end += 1;
        }
        let (end, token) = best?;
        let bytes = self.tokens.get(token as usize)?;
        Some(Match { start, end, id: read_u32(bytes, 0)?, flags: read_u32(bytes, 4)? })
    }

    /// Whether a token that begins in `starts` could go on behind `text`.
    pub(crate) fn may_go_on(&self, text: &[u8], starts: RangeInclusive<usize>) -> bool {
        let goes_on = |start: usize| {
            let Some((first, rest)) = text.get(start..).and_then(<[u8]>::split_first) else {
                return true;
            };
            let mut bytes = rest.iter();
            let last = bytes.try_fold(self.root(*first), |node, byte| {
                self.follow(self.nodes.get(node as usize).filter(|_| node != 0)?, *byte)
            });
            last.is_some_and(|node| node != 0 && self.behind(node).next().is_some())
        };
        starts.into_iter().any(goes_on)
    }

    /// The length of the longest token, where none has flags.
    pub(crate) fn longest_plain(&self) -> Option<usize> {
        let flags = |token: &[u8; TOKEN]| read_u32(token, 4).unwrap_or(0);
        if self.tokens.iter().any(|token| flags(token) & (SINGLE_WORD | LSTRIP | RSTRIP) != 0) {
            return None;
        }
        let mut longest = 0;
        let mut level: Vec<u32> = self
            .roots
            .iter()
            .map(|root| u32::from_le_bytes(*root))
            .filter(|root| *root != 0)
            .collect();
        // A trie has no more levels than nodes; a broken one might.
        while !level.is_empty() && longest < self.nodes.len() {
            longest += 1;
            level = level.into_iter().flat_map(|node| self.behind(node)).collect();
        }
        Some(longest)
    }

    fn behind(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let edges = self.nodes.get(node as usize).and_then(|node| {
            let first = read_u32(node, 0)? as usize;
            self.edges.get(first..first.checked_add(read_u32(node, 4)? as usize)?)
        });
        edges.unwrap_or_default().iter().filter_map(|edge| read_u32(edge, 4))
    }

    fn follow(&self, node: &[u8], byte: u8) -> Option<u32> {
        let first = read_u32(node, 0)? as usize;
        let count = read_u32(node, 4)? as usize;
        let edges = self.edges.get(first..first.checked_add(count)?)?;
        let edge = edges.iter().find(|edge| edge.first() == Some(&byte))?;
        read_u32(edge, 4)
    }
}

/// Where the white space that ends at `end` begins, no earlier than `floor`.
fn spaces_before(text: &[u8], end: usize, floor: usize) -> usize {
    let mut at = end;
    while at > floor {
        let start = char_start(text, at);
        let space = text.get(start..at).and_then(|bytes| std::str::from_utf8(bytes).ok());
        if !space.is_some_and(|space| space.chars().all(char::is_whitespace)) {
            break;
        }
        at = start;
    }
    at
}

/// Where the white space that begins at `start` ends.
fn spaces_after(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    text.len() - rest.trim_start_matches(char::is_whitespace).len()
}
