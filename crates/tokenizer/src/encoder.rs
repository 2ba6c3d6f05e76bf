//! Text → ids, on a table.
//!
//! The order is the library's: added tokens in the text as it came; between them the
//! normalizer; added tokens in the normalized text; between those the pre-tokenizer's
//! stages, and the model on each piece.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::Cache;
use crate::long::Long;
use crate::merge::{WINDOW, Window};
use crate::normalize;
use crate::table::{
    FLAG_CHARS, FLAG_CUT_EACH, FLAG_CUT_RUNS, FLAG_META_ALWAYS, FLAG_META_FIRST, FLAG_META_SPACE,
    FLAG_NFC, FLAG_PREFIX_SPACE, FLAG_SPACE, Table, View,
};
use crate::vocab::{KEY, Key, SHORT};

/// Working memory of an encoding, to be reused, with one table only: it remembers that
/// table's ids. About 230 KB, plus a few times the longest piece of text.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    cache: Cache,
    normalized: String,
    prefixed: String,
    window: Window,
    long: Long,
}

/// A table with working memory for as many threads as use it at a time.
///
/// [`Table::encode`] is for callers that keep their own [`Scratch`].
#[derive(Debug)]
pub struct Encoder {
    table: Arc<Table>,
    idle: Mutex<Vec<Scratch>>,
}

impl Encoder {
    /// An encoder on `table`.
    #[must_use]
    pub fn new(table: impl Into<Arc<Table>>) -> Self {
        Encoder { table: table.into(), idle: Mutex::default() }
    }

    /// Appends the ids of `text`: special tokens in it are recognised, none is added.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut scratch = self.idle().pop().unwrap_or_default();
        self.table.encode(&mut scratch, text, ids);
        self.idle().push(scratch);
    }

    /// Held for a push or a pop only; a list of scratch cannot be left half changed.
    fn idle(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table that it runs on.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

impl Table {
    /// Appends the ids of `text`: special tokens in it are recognised, none is added.
    pub fn encode(&self, scratch: &mut Scratch, text: &str, ids: &mut Vec<u32>) {
        let view = self.view();
        ids.reserve(text.len() / 3);
        let mut run = Run { view: &view, scratch, ids };
        view.raw.cut(
            text.as_bytes(),
            &view.word,
            &mut run,
            |run, start, end| {
                run.segment(text.get(start..end).unwrap_or_default(), start == 0);
            },
            |run, id| run.ids.push(id),
        );
    }
}

struct Run<'t, 'r> {
    view: &'r View<'t>,
    scratch: &'r mut Scratch,
    ids: &'r mut Vec<u32>,
}

impl Run<'_, '_> {
    /// A stretch of the text between added tokens; `first` if the text begins with it.
    fn segment(&mut self, text: &str, first: bool) {
        let view = self.view;
        if view.has(FLAG_NFC) {
            let mut buffer = std::mem::take(&mut self.scratch.normalized);
            if normalize::nfc(text, &view.nfc, &mut buffer) {
                self.normalized(&buffer, first);
            } else {
                self.normalized(text, first);
            }
            self.scratch.normalized = buffer;
        } else if view.has(FLAG_SPACE) || !view.prepend.is_empty() {
            let mut buffer = std::mem::take(&mut self.scratch.normalized);
            buffer.clear();
            buffer.push_str(std::str::from_utf8(view.prepend).unwrap_or_default());
            if view.has(FLAG_SPACE) {
                normalize::spaces(text, &mut buffer);
            } else {
                buffer.push_str(text);
            }
            self.normalized(&buffer, first);
            self.scratch.normalized = buffer;
        } else {
            self.normalized(text, first);
        }
    }

    fn normalized(&mut self, text: &str, first: bool) {
        let view = self.view;
        if view.normalized.is_empty() {
            self.split(text, first);
            return;
        }
        view.normalized.cut(
            text.as_bytes(),
            &view.word,
            self,
            |run, start, end| {
                run.split(text.get(start..end).unwrap_or_default(), first && start == 0);
            },
            |run, id| run.ids.push(id),
        );
    }

    fn split(&mut self, text: &str, first: bool) {
        let view = self.view;
        if text.is_empty() {
        } else if view.has(FLAG_META_SPACE) {
            let mut buffer = std::mem::take(&mut self.scratch.prefixed);
            buffer.clear();
            let bare = !text.starts_with(' ') && !text.starts_with(normalize::SPACE);
            if bare && (view.has(FLAG_META_ALWAYS) || view.has(FLAG_META_FIRST) && first) {
                buffer.push_str(normalize::SPACE);
            }
            normalize::spaces(text, &mut buffer);
            self.cut(buffer.as_bytes());
            self.scratch.prefixed = buffer;
        } else if view.has(FLAG_PREFIX_SPACE) && !text.starts_with(' ') {
            let mut buffer = std::mem::take(&mut self.scratch.prefixed);
            buffer.clear();
            buffer.push(' ');
            buffer.push_str(text);
            self.cut(buffer.as_bytes());
            self.scratch.prefixed = buffer;
        } else {
            self.cut(text.as_bytes());
        }
    }

    fn cut(&mut self, text: &[u8]) {
        let view = self.view;
        if view.has(FLAG_CUT_RUNS) || view.has(FLAG_CUT_EACH) {
            self.cut_spaces(text, view.has(FLAG_CUT_EACH));
        } else {
            self.stage(0, text, 0, text.len());
        }
    }

    /// Pieces that begin at each `▁`, or at each run of them.
    fn cut_spaces(&mut self, text: &[u8], each: bool) {
        let space = normalize::SPACE.as_bytes();
        let (mut start, mut at) = (0, 0);
        // End of the last `▁`: one that begins there goes on with the run.
        let mut run = usize::MAX;
        while at < text.len() {
            let Some(&byte) = text.get(at) else { break };
            if Some(&byte) != space.first() || text.get(at..at + space.len()) != Some(space) {
                at += 1;
                continue;
            }
            if start < at && (each || at != run) {
                self.piece(text, start, at);
                start = at;
            }
            at += space.len();
            run = at;
        }
        if start < text.len() {
            self.piece(text, start, text.len());
        }
    }

    fn stage(&mut self, stage: usize, text: &[u8], start: usize, end: usize) {
        let view = self.view;
        let stages = view.meta.stages as usize;
        let Some(splitter) = view.stages.get(stage).filter(|_| stage < stages) else {
            self.piece(text, start, end);
            return;
        };
        if stage + 1 == stages {
            splitter.pieces(text, start, end, |start, end| self.piece(text, start, end));
        } else {
            splitter.pieces(text, start, end, |start, end| self.stage(stage + 1, text, start, end));
        }
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
        if piece.len() > SHORT
            && let Some(hit) = view.vocab.long(piece)
            && hit.folds
        {
            self.ids.push(hit.id);
            return;
        }
        let ids = &mut *self.ids;
        let Scratch { window, long, .. } = &mut *self.scratch;
        if view.has(FLAG_CHARS) {
            long.symbols.clear();
            char_symbols(view, piece, &mut long.symbols);
            if long.symbols.len() > WINDOW {
                long.encode(view, None, ids);
                return;
            }
            window.fill(&view.merges, &long.symbols);
        } else if piece.len() > WINDOW {
            long.symbols.clear();
            long.symbols.extend(piece.iter().map(|byte| view.byte_id(*byte)));
            long.encode(view, Some(piece), ids);
            return;
        } else {
            window.fill_bytes(&view.merges, piece, |byte| view.byte_id(byte));
        }
        window.merge(&view.merges, |id, _| ids.push(id));
    }
}

/// A symbol for each character that is a token, its bytes' fallback tokens for others.
fn char_symbols(view: &View<'_>, piece: &[u8], symbols: &mut Vec<u32>) {
    let mut at = 0;
    while let Some(&lead) = piece.get(at) {
        let width = match lead {
            0..=0xBF => 1,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            _ => 4,
        };
        let Some(bytes) = piece.get(at..at + width) else { break };
        match view.vocab.find(bytes) {
            Some(hit) => symbols.push(hit.id),
            None => symbols.extend(bytes.iter().map(|byte| view.byte_id(*byte))),
        }
        at += width;
    }
}
