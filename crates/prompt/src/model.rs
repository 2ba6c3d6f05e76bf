//! A model.
use crate::{ModelSpec, Refusal, Request};

/// Text to token ids.
pub trait Encode {
    /// Appends the ids of `text`; adds no special tokens, but recognises those in the text.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal>;
}

/// Why a [`ModelSpec`] cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A chat template does not compile.
    #[error("chat template {name}: {reason}")]
    Template {
        /// The template's name.
        name: String,
        /// The compiler's words.
        reason: String,
    },
}

/// A [`ModelSpec`] compiled, and an encoder.
pub struct Model {
    _spec: ModelSpec,
    _encoder: Box<dyn Encode>,
}

/// A request's token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// One entry for each prompt; never empty.
    pub ids: Vec<Vec<u32>>,
}

impl Model {
    /// Compiles the templates.
    pub fn new(spec: ModelSpec, encoder: Box<dyn Encode>) -> Result<Model, ModelError> {
        Ok(Model { _spec: spec, _encoder: encoder })
    }

    /// The ids that the engine computes for `request`.
    pub fn tokenize(&self, _request: &Request, _unix_seconds: u64) -> Result<Prompts, Refusal> {
        Err(Refusal::NotJson)
    }
}
