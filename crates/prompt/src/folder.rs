//! A model's folder: `tokenizer.json`, `tokenizer_config.json`, chat templates.
//!
//! transformers decides what these files mean together, and it decides
//! differently by tokenizer class and model type. What is reproduced is read;
//! what is not is refused when the folder is loaded, with the reason.

mod classes;
mod probe;
mod templates;
mod tokens;

mod verify;

use crate::json::{self, Dict, Json};
use crate::library::LibraryEncoder;
use crate::spec::ModelSpec;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::Tokenizer;

/// Why a model's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("cannot use {}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine would tokenize in a way that is not reproduced.
    #[error("the tokenizer of this model is not reproduced: {0}")]
    Unsupported(String),
    /// No table encodes as the library does.
    #[error("no table can be made of this tokenizer: {0}")]
    Table(String),
}

/// A model's tokenizer and templates, read from its folder.
pub struct ModelFolder {
    /// How its prompts are made.
    pub spec: ModelSpec,
    tokenizer: Arc<Tokenizer>,
}

impl std::fmt::Debug for ModelFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFolder").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl ModelFolder {
    /// Reads the folder as vLLM 0.32 with transformers 5 does.
    ///
    /// Only `tokenizer.json` has to be there. A template that cannot be rendered
    /// exactly leaves the model usable for completions: the reason is in the
    /// [`ModelSpec`].
    pub fn load(path: &Path) -> Result<ModelFolder, LoadError> {
        let files = Files::read(path)?;
        let class = classes::check(&files)?;
        let mut tokenizer: Tokenizer = classes::tokenizer_text(&files, class)?.parse().map_err(
            |error: tokenizers::Error| LoadError::Content {
                path: path.join(TOKENIZER),
                reason: error.to_string(),
            },
        )?;
        let special_tokens = tokens::add(&mut tokenizer, &files, class)?;
        // The engine sets both anew for every text.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| LoadError::Unsupported(error.to_string()))?;
        tokenizer.set_encode_special_tokens(false);
        let (prefix, suffix) = tokens::around(&tokenizer)?;
        let mut spec = ModelSpec { special_tokens, prefix, suffix, ..ModelSpec::default() };
        templates::read(&files, &mut spec)?;
        probe::settle(&files, &mut spec);
        Ok(ModelFolder { spec, tokenizer: Arc::new(tokenizer) })
    }

    /// The reference encoder.
    pub fn encoder(&self) -> LibraryEncoder {
        LibraryEncoder::new(self.tokenizer.clone())
    }

    /// Compiles the table that the filter encodes with, and compares it with the
    /// reference on texts of many kinds; any difference is an error.
    pub fn table(&self) -> Result<Vec<u8>, LoadError> {
        verify::table(self)
    }
}

const TOKENIZER: &str = "tokenizer.json";

/// The folder's files, parsed.
struct Files {
    folder: PathBuf,
    tokenizer_text: String,
    tokenizer: Dict,
    /// `tokenizer_config.json`, empty where there is none.
    tokenizer_config: Dict,
    /// `config.json`, empty where there is none.
    config: Dict,
}

impl Files {
    fn read(folder: &Path) -> Result<Files, LoadError> {
        let tokenizer_text = text(&folder.join(TOKENIZER))?;
        Ok(Files {
            tokenizer: dict(&folder.join(TOKENIZER), &tokenizer_text)?,
            tokenizer_text,
            tokenizer_config: optional_dict(&folder.join("tokenizer_config.json"))?,
            config: optional_dict(&folder.join("config.json"))?,
            folder: folder.to_owned(),
        })
    }

    /// The model's type, as transformers names it.
    fn model_type(&self) -> &str {
        self.config.get("model_type").and_then(Json::as_str).unwrap_or("")
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }
}

fn text(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path)
        .map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

fn dict(path: &Path, text: &str) -> Result<Dict, LoadError> {
    match json::read(text) {
        Ok(Json::Dict(dict)) => Ok(dict),
        _ => Err(LoadError::Content {
            path: path.to_owned(),
            reason: "it is not a JSON object".to_owned(),
        }),
    }
}

/// A file that may be missing, but not broken.
fn optional_dict(path: &Path) -> Result<Dict, LoadError> {
    match text(path) {
        Ok(text) => dict(path, &text),
        Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Dict::default())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
