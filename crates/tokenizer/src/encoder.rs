//! Text → ids, on a table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::Cache;
use crate::long::Merger;
use crate::merge::Window;
use crate::progress::{Progress, Step};
use crate::segment::Segment;
use crate::table::Table;

/// Working memory of an encoding, to be reused, with one table only: it remembers that
/// table's ids. About 230 KB, plus a few times the longest piece of text.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(crate) cache: Cache,
    pub(crate) window: Window,
    pub(crate) merger: Merger,
    /// Of whoever encodes a text in one go.
    progress: Progress,
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
        self.with_scratch(|scratch| self.table.encode(scratch, text, ids));
    }

    /// [`Table::encode_some`] with working memory of the encoder's.
    pub fn encode_some(
        &self,
        progress: &mut Progress,
        text: &str,
        budget: usize,
        ids: &mut Vec<u32>,
    ) -> Step {
        self.with_scratch(|scratch| self.table.encode_some(scratch, progress, text, budget, ids))
    }

    fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.idle().pop().unwrap_or_default();
        let result = work(&mut scratch);
        self.idle().push(scratch);
        result
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
        ids.reserve(text.len() / 3);
        let mut progress = std::mem::take(&mut scratch.progress);
        for segment in self.segments(text) {
            match segment {
                Segment::Added { id, .. } => ids.push(id),
                Segment::Text { start, end, first } => {
                    let text = text.get(start..end).unwrap_or_default();
                    progress.restart(first);
                    let all = usize::MAX;
                    while self.encode_some(scratch, &mut progress, text, all, ids) == Step::More {}
                }
            }
        }
        scratch.progress = progress;
    }
}
