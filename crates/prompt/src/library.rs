//! Hugging Face's tokenizers.
use crate::{Encode, Refusal};

/// The reference encoder.
#[derive(Clone)]
pub struct LibraryEncoder {}

impl Encode for LibraryEncoder {
    fn encode(&self, _text: &str, _ids: &mut Vec<u32>) -> Result<(), Refusal> {
        Err(Refusal::NotJson)
    }
}
