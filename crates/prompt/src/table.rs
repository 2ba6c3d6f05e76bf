//! The compiled table that the filter encodes with.
//!
//! For now it is kitoken's own definition: exact on every byte-level and
//! SentencePiece BPE tried, at 25 MB and 30 ms a VM. A leaner table of our own is
//! to replace it behind [`Encode`]; nothing outside this file knows kitoken.

use crate::{Encode, Refusal};
use kitoken::{Definition, Kitoken};

/// Names the binary layout of a table.
pub const TABLE_FORMAT: &str = "kitoken-0.11";

/// Characters beyond Unicode 9 that normalization moves or composes: the library's
/// tables end there, kitoken's do not. Beside ASCII they stay as they are in both;
/// text with one of them beside anything else is not encoded.
const NEWER: &[(char, char)] = &[
    ('\u{7fd}', '\u{7fd}'),
    ('\u{897}', '\u{89f}'),
    ('\u{8ca}', '\u{8d3}'),
    ('\u{9fe}', '\u{9fe}'),
    ('\u{c3c}', '\u{c3c}'),
    ('\u{d3b}', '\u{d3c}'),
    ('\u{eba}', '\u{eba}'),
    ('\u{1715}', '\u{1715}'),
    ('\u{1abf}', '\u{1add}'),
    ('\u{1ae0}', '\u{1aeb}'),
    ('\u{1df6}', '\u{1dfa}'),
    ('\u{a82c}', '\u{a82c}'),
    ('\u{105c9}', '\u{105c9}'),
    ('\u{105d2}', '\u{105d2}'),
    ('\u{105da}', '\u{105da}'),
    ('\u{105e4}', '\u{105e4}'),
    ('\u{10d24}', '\u{10d27}'),
    ('\u{10d69}', '\u{10d6d}'),
    ('\u{10eab}', '\u{10eac}'),
    ('\u{10efa}', '\u{10efb}'),
    ('\u{10efd}', '\u{10eff}'),
    ('\u{10f46}', '\u{10f50}'),
    ('\u{10f82}', '\u{10f85}'),
    ('\u{11070}', '\u{11070}'),
    ('\u{1133b}', '\u{1133b}'),
    ('\u{11382}', '\u{11385}'),
    ('\u{1138b}', '\u{1138b}'),
    ('\u{1138e}', '\u{1138e}'),
    ('\u{11390}', '\u{11391}'),
    ('\u{113c2}', '\u{113c2}'),
    ('\u{113c5}', '\u{113c5}'),
    ('\u{113c7}', '\u{113c8}'),
    ('\u{113ce}', '\u{113d0}'),
    ('\u{1145e}', '\u{1145e}'),
    ('\u{11839}', '\u{1183a}'),
    ('\u{11935}', '\u{11935}'),
    ('\u{11938}', '\u{11938}'),
    ('\u{1193d}', '\u{1193e}'),
    ('\u{11943}', '\u{11943}'),
    ('\u{119e0}', '\u{119e0}'),
    ('\u{11a34}', '\u{11a34}'),
    ('\u{11a47}', '\u{11a47}'),
    ('\u{11a99}', '\u{11a99}'),
    ('\u{11d42}', '\u{11d42}'),
    ('\u{11d44}', '\u{11d45}'),
    ('\u{11d97}', '\u{11d97}'),
    ('\u{11f41}', '\u{11f42}'),
    ('\u{1611e}', '\u{1611e}'),
    ('\u{16121}', '\u{16129}'),
    ('\u{1612f}', '\u{1612f}'),
    ('\u{16d63}', '\u{16d63}'),
    ('\u{16d67}', '\u{16d6a}'),
    ('\u{16ff0}', '\u{16ff1}'),
    ('\u{1e08f}', '\u{1e08f}'),
    ('\u{1e130}', '\u{1e136}'),
    ('\u{1e2ae}', '\u{1e2ae}'),
    ('\u{1e2ec}', '\u{1e2ef}'),
    ('\u{1e4ec}', '\u{1e4ef}'),
    ('\u{1e5ee}', '\u{1e5ef}'),
    ('\u{1e6e3}', '\u{1e6e3}'),
    ('\u{1e6e6}', '\u{1e6e6}'),
    ('\u{1e6ee}', '\u{1e6ef}'),
    ('\u{1e6f5}', '\u{1e6f5}'),
];

/// Why bytes are not a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {TABLE_FORMAT} table: {reason}")]
pub struct TableError {
    reason: String,
}

/// Encodes with a compiled table.
pub struct TableEncoder {
    kitoken: Kitoken,
}

impl TableEncoder {
    /// Loads a table that [`ModelFolder::table`](crate::ModelFolder::table) made.
    pub fn from_bytes(bytes: &[u8]) -> Result<TableEncoder, TableError> {
        let definition = Definition::from_slice(bytes).map_err(reason)?;
        Ok(TableEncoder { kitoken: Kitoken::try_from(definition).map_err(reason)? })
    }
}

pub(crate) fn is_newer(char: char) -> bool {
    let after = NEWER.partition_point(|(start, _)| *start <= char);
    let range = after.checked_sub(1).and_then(|at| NEWER.get(at));
    range.is_some_and(|(_, end)| char <= *end)
}

/// Whether some newer character has a neighbour that it may move past or join with.
fn normalizations_part(text: &str) -> bool {
    let mut before: Option<(char, bool)> = None;
    text.chars().any(|char| {
        let newer = is_newer(char);
        let parts = before.is_some_and(|(other, other_newer)| {
            (newer && !other.is_ascii()) || (other_newer && !char.is_ascii())
        });
        before = Some((char, newer));
        parts
    })
}

fn reason(error: impl ToString) -> TableError {
    TableError { reason: error.to_string() }
}

/// Compiles the text of a `tokenizer.json`.
#[cfg(feature = "library")]
pub(crate) fn compile(tokenizer_json: &str) -> Result<Vec<u8>, TableError> {
    let definition =
        Definition::from_tokenizers_slice(tokenizer_json.as_bytes()).map_err(reason)?;
    Ok(definition.to_vec())
}

impl Encode for TableEncoder {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal> {
        if !text.is_ascii() && normalizations_part(text) {
            return Err(Refusal::Encoding);
        }
        let encoded = self.kitoken.encode(text, true).map_err(|_| Refusal::Encoding)?;
        ids.extend_from_slice(&encoded);
        Ok(())
    }
}

#[cfg(all(test, feature = "library"))]
mod tests;
