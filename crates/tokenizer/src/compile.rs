//! tokenizer.json → table. Native, once per model; takes a second or so.
//!
//! Whatever the table cannot say is refused by name ([`CompileError::Unsupported`]); the
//! caller serves such a model by the library. Unknown fields of a known part are
//! refused as well as unknown parts where they could change ids.

mod added;
mod automaton;
mod bpe;
mod file;
mod pages;
mod pipeline;
mod pump;
mod words;
mod write;

use crate::table::Table;

/// Why no table was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Not the JSON of a tokenizer.
    #[error("tokenizer.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A part that the table has no form for; the library can serve the model.
    #[error(
        "tokenizer has {0}, which the compiled table does not support: it is served by the library"
    )]
    Unsupported(String),
    /// The file contradicts itself.
    #[error("tokenizer.json is inconsistent: {0}")]
    Inconsistent(String),
}

pub(crate) fn unsupported(part: impl Into<String>) -> CompileError {
    CompileError::Unsupported(part.into())
}

/// Compiles the content of a tokenizer.json.
///
/// Truncation, padding and the post-processor are left out: engines switch the first
/// two off, and special tokens around a prompt are the caller's.
///
/// # Errors
/// [`CompileError`], naming the part that is not supported or not consistent.
pub fn compile(json: &[u8]) -> Result<Table, CompileError> {
    let file: file::File = serde_json::from_slice(json)?;
    let pipeline = pipeline::read(&file)?;
    let model = bpe::build(&file.model, &pipeline)?;
    let added = added::build(&file, &pipeline)?;
    let bytes = write::assemble(&pipeline, &model, &added);
    Table::from_bytes(bytes).map_err(|error| CompileError::Inconsistent(error.to_string()))
}
