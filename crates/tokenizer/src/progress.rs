//! One text segment → ids, in slices.
//!
//! The order is the library's: the normalizer; added tokens in the normalized text;
//! between those the pre-tokenizer's stages, and the model on each piece. Each of them
//! is a cursor in [`Progress`], so that the work stops between any two pieces, and
//! inside a long one, and goes on there in a later call: a filter that shares its
//! thread with other requests encodes a long prompt a few milliseconds at a time.
//!
//! Rejected: cutting a long text at places that are safe for every split pattern. There
//! are none in one long word, and what is safe differs by pattern.

use crate::encoder::Scratch;
use crate::long::{Long, char_symbols};
use crate::merge::WINDOW;
use crate::normalize::{self, Nfc};
use crate::segment::{Cursor, Segment};
use crate::split::Span;
use crate::table::{
    FLAG_CHARS, FLAG_CUT_EACH, FLAG_CUT_RUNS, FLAG_META_ALWAYS, FLAG_META_FIRST, FLAG_META_SPACE,
    FLAG_NFC, FLAG_PREFIX_SPACE, FLAG_SPACE, MAX_STAGES, Table, View,
};
use crate::vocab::{KEY, Key, SHORT};

/// Bytes of a piece that is merged in slices; shorter ones are merged at a stretch.
const HUGE: usize = 4096;

/// Whether [`Table::encode_some`] has come to the end of its segment.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Step {
    /// All ids are there.
    Done,
    /// The ids so far are final; the next call goes on behind them.
    More,
}

/// How far the encoding of one text segment has come. Holds the normalized text, where
/// the segment needed normalizing, and the tokens of a long piece under way.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    first: bool,
    phase: Phase,
    nfc: Nfc,
    /// The segment, normalized, if `changed`.
    normalized: String,
    changed: bool,
    /// Over added tokens of the normalized text.
    cursor: Cursor,
    /// The part between two of them, with a space put before, if `prefixed`.
    prefix: String,
    prefixed: bool,
    stages: [Span; MAX_STAGES],
    stage: usize,
    long: Long,
    /// The piece that `long` is at.
    huge: Option<(usize, usize)>,
}

#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Normalize,
    Between,
    Part,
    Done,
}

impl Progress {
    /// The start of a segment; `first` is that of its [`Segment::Text`].
    #[must_use]
    pub fn new(first: bool) -> Self {
        Progress { first, ..Progress::default() }
    }

    /// The start of another segment, in this one's memory.
    pub fn restart(&mut self, first: bool) {
        self.first = first;
        self.phase = Phase::Normalize;
        self.nfc = Nfc::default();
        self.changed = false;
        self.cursor = Cursor::default();
        self.huge = None;
    }
}

impl Table {
    /// Goes on with the encoding of one text segment: appends ids for about `budget` bytes
    /// of it, at least one piece's. `text` is the segment's, the same at every call until
    /// [`Step::Done`].
    ///
    /// A call costs some microseconds beyond what its bytes do, and may go over its budget
    /// by a few KB.
    pub fn encode_some(
        &self,
        scratch: &mut Scratch,
        progress: &mut Progress,
        text: &str,
        budget: usize,
        ids: &mut Vec<u32>,
    ) -> Step {
        let view = self.view();
        let normalized = std::mem::take(&mut progress.normalized);
        let prefix = std::mem::take(&mut progress.prefix);
        let mut run =
            Run { view: &view, scratch, progress, ids, left: budget.max(1), normalized, prefix };
        let done = run.go(text);
        let Run { progress, normalized, prefix, .. } = run;
        progress.normalized = normalized;
        progress.prefix = prefix;
        if done { Step::Done } else { Step::More }
    }
}

/// One call. The progress's texts are its own meanwhile: pieces borrow from them.
struct Run<'t, 'r> {
    view: &'r View<'t>,
    scratch: &'r mut Scratch,
    progress: &'r mut Progress,
    ids: &'r mut Vec<u32>,
    /// Bytes that may still be worked off.
    left: usize,
    normalized: String,
    prefix: String,
}

impl Run<'_, '_> {
    fn go(&mut self, text: &str) -> bool {
        if self.progress.phase == Phase::Normalize {
            if !self.normalize(text) {
                return false;
            }
            self.progress.phase = Phase::Between;
        }
        let normalized = std::mem::take(&mut self.normalized);
        let done = self.parts(if self.progress.changed { &normalized } else { text });
        self.normalized = normalized;
        done
    }

    fn normalize(&mut self, text: &str) -> bool {
        let (view, buffer) = (self.view, &mut self.normalized);
        if view.has(FLAG_NFC) {
            if !self.progress.nfc.go(text, &view.nfc, buffer, &mut self.left) {
                return false;
            }
            self.progress.changed = self.progress.nfc.changed();
        } else if view.has(FLAG_SPACE) || !view.prepend.is_empty() {
            buffer.clear();
            buffer.push_str(std::str::from_utf8(view.prepend).unwrap_or_default());
            if view.has(FLAG_SPACE) {
                normalize::spaces(text, buffer);
            } else {
                buffer.push_str(text);
            }
            self.progress.changed = true;
        }
        true
    }

    /// The parts of the normalized text between its added tokens.
    fn parts(&mut self, text: &str) -> bool {
        loop {
            if self.progress.phase == Phase::Part {
                let prefix = std::mem::take(&mut self.prefix);
                let within = if self.progress.prefixed { &prefix } else { text };
                let done = self.pieces(within.as_bytes());
                self.prefix = prefix;
                if !done {
                    return false;
                }
                self.progress.phase = Phase::Between;
            }
            if self.progress.phase == Phase::Done {
                return true;
            }
            match self.view.normalized.next(text, &self.view.word, &mut self.progress.cursor) {
                Some(Segment::Text { start, end, first }) => {
                    self.begin(text, start, end, first && self.progress.first);
                    self.progress.phase = Phase::Part;
                }
                Some(Segment::Added { id, .. }) => self.ids.push(id),
                None => self.progress.phase = Phase::Done,
            }
        }
    }

    fn begin(&mut self, text: &str, start: usize, end: usize, first: bool) {
        let (view, buffer) = (self.view, &mut self.prefix);
        let part = text.get(start..end).unwrap_or_default();
        let mut span = Span::new(start, end);
        let meta = view.has(FLAG_META_SPACE);
        let bare = !(part.starts_with(' ') || meta && part.starts_with(normalize::SPACE));
        let prefix = match (meta, view.has(FLAG_PREFIX_SPACE)) {
            (true, _) if view.has(FLAG_META_ALWAYS) || view.has(FLAG_META_FIRST) && first => {
                normalize::SPACE
            }
            (false, true) => " ",
            _ => "",
        };
        self.progress.prefixed = meta || bare && !prefix.is_empty();
        if self.progress.prefixed {
            buffer.clear();
            buffer.push_str(if bare { prefix } else { "" });
            if meta {
                normalize::spaces(part, buffer);
            } else {
                buffer.push_str(part);
            }
            span = Span::new(0, buffer.len());
        }
        self.progress.stages = [Span::default(); MAX_STAGES];
        self.progress.stages[0] = span;
        self.progress.stage = 0;
    }

    /// Goes on with the pieces of the part at hand.
    fn pieces(&mut self, text: &[u8]) -> bool {
        let view = self.view;
        let last = (view.meta.stages as usize).saturating_sub(1);
        loop {
            if let Some((start, end)) = self.progress.huge {
                if !self.huge_piece(text.get(start..end).unwrap_or_default()) {
                    return false;
                }
                self.progress.huge = None;
            }
            if self.left == 0 {
                return false;
            }
            let stage = self.progress.stage;
            let (Some(splitter), Some(span)) =
                (view.stages.get(stage), self.progress.stages.get_mut(stage))
            else {
                return true;
            };
            if stage < last {
                let piece = splitter.next(text, span);
                self.nest(piece);
                if piece.is_none() && stage == 0 {
                    return true;
                }
                continue;
            }
            let mut here = *span;
            let all = match () {
                () if view.has(FLAG_CUT_RUNS) || view.has(FLAG_CUT_EACH) => {
                    let each = view.has(FLAG_CUT_EACH);
                    self.each(text, &mut here, |span| span.take_to_space(text, each))
                }
                () if view.meta.stages == 0 => self.each(text, &mut here, Span::take),
                () => self.each(text, &mut here, |span| splitter.next(text, span)),
            };
            if let Some(span) = self.progress.stages.get_mut(stage) {
                *span = here;
            }
            if all && stage == 0 {
                return true;
            }
            if all {
                self.progress.stage -= 1;
            }
        }
    }

    /// Hands a piece of one stage to the next, or goes back to the one before.
    fn nest(&mut self, piece: Option<(usize, usize)>) {
        let Progress { stage, stages, .. } = &mut *self.progress;
        let Some((start, end)) = piece else {
            *stage = stage.saturating_sub(1);
            return;
        };
        *stage += 1;
        if let Some(span) = stages.get_mut(*stage) {
            *span = Span::new(start, end);
        }
    }

    /// Encodes pieces until the budget is spent or a huge one comes; true at the end.
    #[inline(always)]
    fn each(
        &mut self,
        text: &[u8],
        span: &mut Span,
        mut next: impl FnMut(&mut Span) -> Option<(usize, usize)>,
    ) -> bool {
        let from = span.at;
        let limit = from.saturating_add(self.left);
        let mut all = true;
        while let Some((start, end)) = next(span) {
            if end - start > HUGE {
                self.progress.long.restart();
                self.progress.huge = Some((start, end));
                all = false;
                break;
            }
            self.piece(text, start, end);
            if end >= limit {
                all = false;
                break;
            }
        }
        // A huge piece pays for itself.
        let huge = self.progress.huge.map_or(0, |(start, end)| end - start);
        self.left = self.left.saturating_sub((span.at - from).saturating_sub(huge));
        all
    }

    #[inline(always)]
    fn piece(&mut self, text: &[u8], start: usize, end: usize) {
        let len = end.saturating_sub(start);
        if len > KEY {
            self.long_piece(text, start, end);
            return;
        }
        let key = Key::load(text, start, len);
        let hash = key.hash();
        if len <= SHORT
            && let Some(hit) = self.view.vocab.short(key, hash)
            && hit.folds
        {
            self.ids.push(hit.id);
            return;
        }
        self.merge_short(text, start, end, key, hash);
    }

    #[inline(never)]
    fn merge_short(&mut self, text: &[u8], start: usize, end: usize, key: Key, hash: u64) {
        if self.scratch.cache.get(key, hash, self.ids) {
            return;
        }
        let before = self.ids.len();
        self.long_piece(text, start, end);
        let became = self.ids.get(before..).unwrap_or_default();
        self.scratch.cache.put(key, hash, became);
    }

    #[inline(never)]
    fn long_piece(&mut self, text: &[u8], start: usize, end: usize) {
        let view = self.view;
        let Some(piece) = text.get(start..end) else { return };
        if self.whole(piece) {
            return;
        }
        let Scratch { window, merger, .. } = &mut *self.scratch;
        let ids = &mut *self.ids;
        if piece.len() > WINDOW {
            let long = &mut self.progress.long;
            long.restart();
            let mut left = usize::MAX;
            long.go(view, merger, piece, &mut left, ids);
            return;
        }
        if view.has(FLAG_CHARS) {
            let symbols = &mut merger.symbols;
            symbols.clear();
            char_symbols(view, piece, usize::MAX, symbols);
            window.fill(&view.merges, symbols);
        } else {
            window.fill_bytes(&view.merges, piece, |byte| view.byte_id(byte));
        }
        window.merge(&view.merges, |id, _| ids.push(id));
    }

    /// Goes on with a huge piece.
    fn huge_piece(&mut self, piece: &[u8]) -> bool {
        let long = &mut self.progress.long;
        if long.is_new() && self.whole(piece) {
            return true;
        }
        let long = &mut self.progress.long;
        long.go(self.view, &mut self.scratch.merger, piece, &mut self.left, self.ids)
    }

    /// Appends the one token that a piece of more than 12 bytes is, if it is one.
    fn whole(&mut self, piece: &[u8]) -> bool {
        let hit = if piece.len() > SHORT { self.view.vocab.long(piece) } else { None };
        match hit {
            Some(hit) if hit.folds => {
                self.ids.push(hit.id);
                true
            }
            _ => false,
        }
    }
}
