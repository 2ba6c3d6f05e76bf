//! tokenizer.json compiled to one flat table, and the encoder that runs on it in place:
//! the tokens of Hugging Face's `tokenizers`, exactly, in microseconds and a few
//! megabytes inside Envoy's VM.
//!
//! `compile` (feature `compile`, native) turns a tokenizer.json into a [`Table`] or
//! names the part it does not know; nothing is ever approximated, such a model is
//! served by the library. `verify` holds a table against the library on a built-in
//! corpus before anybody uses it. The encoder needs neither: no regex engine, no JSON,
//! no parsing at load.
//!
//! What is compiled: byte-level BPE with any sequence of split patterns that are
//! regular but for the usual `\s+(?!\S)|\s+` tail (GPT-2, Llama 3, Qwen, o200k,
//! DeepSeek, tekken, Kimi), StarCoder's digits; SentencePiece BPE with byte fallback
//! (Llama 2, Mistral 7B, Gemma's way) by Prepend/Replace or Metaspace; NFC; added tokens
//! with all flags. What is refused by name: WordPiece and Unigram, other normalizers
//! and pre-tokenizers, Split behaviors other than Isolated (or Removed, inverted),
//! other look-around, possessive repetition and anchors, patterns of quadratic time,
//! dropout, subword affixes, unknown tokens instead of byte fallback, ids beyond 2^21.
//!
//! Adversarial text costs some four to six times what prose of its length does, most for
//! Chinese characters at random: pieces have no length limit and no slow path, see `long`
//! and `runs`.
//!
//! A text is the sequence of its [`Segment`]s; the ids of a text segment depend on nothing
//! but it, so that they can be kept, and a long one can be encoded a slice at a time
//! ([`Table::encode_some`]).
//!
//! Decisions: the modules say theirs. The whole was chosen over running the library in
//! the VM (12–15× slower, 50–95 MB), kitoken (5×, 24–29 MB) and a cache of words in
//! front of either (chat text is mostly new words once per VM).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable
    )
)]

mod added;
mod cache;
mod charmap;
#[cfg(feature = "compile")]
#[allow(clippy::indexing_slicing, reason = "native; indexes into lists of lengths set right there")]
mod compile;
mod encoder;
mod long;
mod merge;
mod normalize;
mod progress;
mod runs;
mod segment;
mod split;
mod table;
#[cfg(feature = "compile")]
mod verify;
mod vocab;
mod word;

#[cfg(feature = "compile")]
pub use compile::{CompileError, compile};
pub use encoder::{Encoder, Scratch};
pub use progress::{Progress, Step};
pub use segment::{Cursor, Segment};
pub use table::{FORMAT, Table, TableError};
#[cfg(feature = "compile")]
pub use verify::{Mismatch, corpus, verify};
