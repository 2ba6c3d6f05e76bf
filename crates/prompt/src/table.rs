//! The compiled table that the filter encodes with: `warmpath-tokenizer` behind
//! [`Encode`].
//!
//! The tokenizer is a crate of its own because it knows nothing of prompts, and so
//! that nothing else here depends on its table's layout.

use crate::{Encode, Refusal};
use warmpath_tokenizer::{Cursor, Encoder, Progress, Segment, Step, Table};

pub use warmpath_tokenizer::{FORMAT as TABLE_FORMAT, TableError};

/// Encodes with a compiled table.
#[derive(Debug)]
pub struct TableEncoder {
    encoder: Encoder,
    /// Of its added tokens, where what they are does not depend on their surroundings.
    longest_added: Option<usize>,
}

impl TableEncoder {
    /// Takes a table that [`ModelFolder::table`](crate::ModelFolder::table) made; it is
    /// used where it lies.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<TableEncoder, TableError> {
        Table::from_bytes(bytes).map(TableEncoder::new)
    }

    /// The same of bytes whose own hash was checked against the one that they were asked
    /// for by: they are not summed up once more.
    pub fn from_hashed_bytes(bytes: Vec<u8>) -> Result<TableEncoder, TableError> {
        Table::from_hashed_bytes(bytes).map(TableEncoder::new)
    }

    fn new(table: Table) -> TableEncoder {
        let longest_added = table.longest_added();
        TableEncoder { encoder: Encoder::new(table), longest_added }
    }
}

impl Encode for TableEncoder {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal> {
        self.encoder.encode(text, ids);
        Ok(())
    }

    fn next_segment(&self, cursor: &mut Cursor, _at: usize, text: &str) -> Option<Segment> {
        self.encoder.table().next_segment(cursor, text)
    }

    fn is_settled(&self, text: &str, end: usize) -> bool {
        let table = self.encoder.table();
        self.longest_added.is_some_and(|longest| table.is_settled(text, end, longest))
    }

    fn encode_some(
        &self,
        progress: &mut Progress,
        segment: &str,
        budget: usize,
        ids: &mut Vec<u32>,
    ) -> Result<Step, Refusal> {
        Ok(self.encoder.encode_some(progress, segment, budget, ids))
    }
}
