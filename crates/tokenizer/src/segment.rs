//! A text cut at its added tokens: what stands between two of them is encoded on its
//! own.
//!
//! The ids of a text are those of its segments, in order, and the ids of a text segment
//! depend on its text and on [`Segment::Text`]'s `first` alone: normalizer, pre-tokenizer
//! and model never look beyond it. The flags that do (`lstrip`, `rstrip`, `single_word`)
//! are settled here, in where the segments begin and end. So a caller may keep the ids of
//! a finished message and look them up when the conversation comes back.

use crate::table::{FLAG_META_FIRST, Table};

/// A part of a text; `text[start..end]`, and the parts follow each other without a gap
/// but for tokens that overlap (`rstrip` swallowed the white space another begins with).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Segment {
    /// Text between added tokens, never empty.
    Text {
        /// Offset of its first byte.
        start: usize,
        /// Offset behind its last byte.
        end: usize,
        /// The text begins with it, and the model encodes that differently (Metaspace
        /// with `prepend_scheme` `first`); false for every segment of other models.
        first: bool,
    },
    /// An added token, which is this one id.
    Added {
        /// The token's id.
        id: u32,
        /// Offset of its first byte, or of the white space it takes along.
        start: usize,
        /// Offset behind its last byte, or behind the white space it takes along.
        end: usize,
    },
}

/// How far a text has been cut into segments. Starts as its default.
#[derive(Copy, Clone, Debug, Default)]
pub struct Cursor {
    /// Where the last segment ended.
    pub(crate) done: usize,
    /// Where the search for the next token goes on.
    pub(crate) from: usize,
    /// A token whose text before it has been given.
    pub(crate) found: Option<Found>,
}

impl Cursor {
    /// The cursor of a text whose segments end at `offset`, and whose next ones do not
    /// depend on what is before (see [`Table::is_settled`]).
    pub fn behind(offset: usize) -> Cursor {
        Cursor { done: offset, from: offset, found: None }
    }
}

/// An added token and the text it stands for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Table {
    /// The next segment of `text`, which is the same at every call with this cursor; none
    /// at the end. For callers that work a text off in slices; see [`Table::segments`].
    pub fn next_segment(&self, cursor: &mut Cursor, text: &str) -> Option<Segment> {
        let distinct = self.has(FLAG_META_FIRST);
        let segment = self.raw().next(text, &self.word(), cursor)?;
        Some(match segment {
            Segment::Text { start, end, first } => {
                Segment::Text { start, end, first: first && distinct }
            }
            token @ Segment::Added { .. } => token,
        })
    }

    /// Whether the segment that ends at `end` of `text` ends there whatever follows
    /// `text`, and those behind it do not depend on what it is. `longest` is
    /// [`longest_added`](Table::longest_added).
    pub fn is_settled(&self, text: &str, end: usize, longest: usize) -> bool {
        let from = text.len().saturating_sub(longest);
        end < text.len() && !self.raw().may_go_on(text.as_bytes(), from..=end)
    }

    /// Bytes of the longest added token; none where flags of one look beyond it.
    pub fn longest_added(&self) -> Option<usize> {
        self.raw().longest_plain()
    }

    /// The segments of `text`, in order. Special tokens in it are recognised.
    pub fn segments<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Segment> + 't {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || self.next_segment(&mut cursor, text))
    }
}
