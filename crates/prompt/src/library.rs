//! Hugging Face's tokenizers: the reference, and the indexer's own encoder.

use crate::{Encode, Refusal};
use std::sync::Arc;
use tokenizers::Tokenizer;

/// Encodes with the library that the engine itself uses.
#[derive(Clone)]
pub struct LibraryEncoder {
    tokenizer: Arc<Tokenizer>,
}

impl LibraryEncoder {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> LibraryEncoder {
        LibraryEncoder { tokenizer }
    }
}

impl Encode for LibraryEncoder {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|_| Refusal::Encoding)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}
