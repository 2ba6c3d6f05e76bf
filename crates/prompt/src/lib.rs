//! OpenAI bodies to the token ids that the engine hashes.
//!
//! A cache hit needs the engine's own tokens, so this crate repeats what vLLM does
//! with a body: its reading of messages and tools, the Jinja environment of
//! transformers, the tokenizer of the model's folder. The rule throughout is exact
//! or refused: whatever is not reproduced becomes a [`Refusal`] with a name, and
//! the request is balanced without a prefix. An approximation would be worse than
//! none, since it books cache that is not there.
//!
//! A chat comes back with every turn. What was there before is recognised by the bytes of
//! its messages (`trail`), and reading, rendering (`template::watch`) and hashing (`job`)
//! go on behind it, so that a turn costs its new text; `docs/prompts.md` says when.
//!
//! The crate runs natively and in the filter's VM, where nothing may panic. Feature
//! `library` brings Hugging Face's tokenizers and reads model folders; feature
//! `table` brings the encoder that the filter uses. What is found out from a folder
//! (special tokens, content formats) travels in [`ModelSpec`], so that the VM
//! neither parses tokenizers nor needs the library.
//!
//! Rejected: asking the engine's own `/tokenize`, which costs a round trip per
//! request; `serde_json` values, which round large integers; minijinja's own maps,
//! which print and resolve attributes otherwise than Python's.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod body;
mod cache;
mod conversation;
#[cfg(feature = "library")]
mod detect;
mod encode;
#[cfg(feature = "library")]
mod folder;
mod job;
mod json;
#[cfg(feature = "library")]
mod library;
mod model;
mod reader;
mod refusal;
mod spec;
mod table;
mod template;
mod trail;

pub use body::{Endpoint, Request};
pub use cache::{Cache, CacheStats};
pub use encode::Encode;
#[cfg(feature = "library")]
pub use folder::{LoadError, ModelFolder};
pub use job::{Hashed, Job, Progress, Want};
#[cfg(feature = "library")]
pub use library::LibraryEncoder;
pub use model::{Model, ModelError, Prompts};
pub use reader::{BodyReader, parse};
pub use refusal::Refusal;
pub use spec::{ChatTemplate, ContentFormat, ModelSpec, SPEC_FORMAT};
pub use table::{TABLE_FORMAT, TableEncoder, TableError};
