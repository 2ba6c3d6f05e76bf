//! The seam between prompts and tokenizers.

use crate::Refusal;
use std::sync::Arc;
use warmpath_tokenizer::{Cursor, Progress, Segment, Step};

/// Text to token ids.
///
/// A text is cut into segments whose ids do not depend on each other, and a segment is
/// encoded in slices; an encoder that can do neither has only to say how it encodes a
/// whole text.
pub trait Encode: Send + Sync {
    /// Appends the ids of `text`. Adds no special tokens, but recognises those in
    /// the text, as the engine does.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal>;

    /// The segment of `text` that begins at `at`, where the last one ended; none at the
    /// end. `cursor` is this text's, from the first call on.
    fn next_segment(&self, _cursor: &mut Cursor, at: usize, text: &str) -> Option<Segment> {
        (at < text.len()).then_some(Segment::Text { start: at, end: text.len(), first: false })
    }

    /// Whether the segments of `text` up to `end`, where one ends, are the same whatever
    /// follows `text`, and so are those behind `end` whatever stands before it.
    fn is_settled(&self, _text: &str, _end: usize) -> bool {
        false
    }

    /// Appends ids of a text segment: those of some `budget` bytes, or of what is left.
    /// `progress` is this segment's, from the first call on.
    fn encode_some(
        &self,
        _progress: &mut Progress,
        segment: &str,
        _budget: usize,
        ids: &mut Vec<u32>,
    ) -> Result<Step, Refusal> {
        self.encode(segment, ids)?;
        Ok(Step::Done)
    }
}

/// One encoder that several models share.
impl<E: Encode + ?Sized> Encode for Arc<E> {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal> {
        (**self).encode(text, ids)
    }

    fn next_segment(&self, cursor: &mut Cursor, at: usize, text: &str) -> Option<Segment> {
        (**self).next_segment(cursor, at, text)
    }

    fn is_settled(&self, text: &str, end: usize) -> bool {
        (**self).is_settled(text, end)
    }

    fn encode_some(
        &self,
        progress: &mut Progress,
        segment: &str,
        budget: usize,
        ids: &mut Vec<u32>,
    ) -> Result<Step, Refusal> {
        (**self).encode_some(progress, segment, budget, ids)
    }
}
