//! The tokenizers under measurement, each behind one function.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

/// Which tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    /// warmpath-tokenizer
    Warmpath,
    /// tokenizers 0.23.2
    HuggingFace,
    /// tokenizers 1.0.0-rc.3
    #[cfg(not(target_family = "wasm"))]
    HuggingFaceNext,
    /// fastokens 0.3.5
    #[cfg(not(target_family = "wasm"))]
    Fastokens,
    /// tiktoken-rs 0.12.1
    #[cfg(not(target_family = "wasm"))]
    Tiktoken,
}

impl Engine {
    pub(crate) const ALL: &[Self] = &[
        Self::Warmpath,
        Self::HuggingFace,
        #[cfg(not(target_family = "wasm"))]
        Self::HuggingFaceNext,
        #[cfg(not(target_family = "wasm"))]
        Self::Fastokens,
        #[cfg(not(target_family = "wasm"))]
        Self::Tiktoken,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warmpath => "warmpath",
            Self::HuggingFace => "tokenizers-0.23",
            #[cfg(not(target_family = "wasm"))]
            Self::HuggingFaceNext => "tokenizers-1.0-rc.3",
            #[cfg(not(target_family = "wasm"))]
            Self::Fastokens => "fastokens",
            #[cfg(not(target_family = "wasm"))]
            Self::Tiktoken => "tiktoken-rs",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|engine| engine.name() == name);
        found.ok_or_else(|| format!("{name} is none of {}", known()))
    }
}

/// Text to ids, appended.
pub(crate) type Encode = Box<dyn Fn(&str, &mut Vec<u32>)>;

/// A folder's files: `tokenizer.json`, and the table that was compiled from it.
pub(crate) fn load(engine: Engine, folder: &Path) -> Result<Encode> {
    let json = || std::fs::read_to_string(folder.join("tokenizer.json")).context("tokenizer.json");
    Ok(match engine {
        Engine::Warmpath => {
            let table = std::fs::read(folder.join("table")).context("no table was compiled")?;
            let encoder =
                warmpath_tokenizer::Encoder::new(warmpath_tokenizer::Table::from_bytes(table)?);
            Box::new(move |text, ids| encoder.encode(text, ids))
        }
        Engine::HuggingFace => {
            let library: tokenizers::Tokenizer =
                json()?.parse().map_err(|error| anyhow!("{error}"))?;
            Box::new(move |text, ids| {
                let encoding = library.encode_fast(text, false).expect("an encoding");
                ids.extend_from_slice(encoding.get_ids());
            })
        }
        #[cfg(not(target_family = "wasm"))]
        Engine::HuggingFaceNext => {
            let json = tokenizers_next::canonicalize_str(&json()?)?;
            let library = tokenizers_next::from_json(&json).map_err(|error| anyhow!("{error}"))?;
            let options = tokenizers_next::pipeline::EncodeOptions::no_specials();
            // Some patterns load and then fail on every text.
            library
                .encode_into("a b", &options, &mut Vec::new())
                .map_err(|error| anyhow!("{error}"))?;
            Box::new(move |text, ids| {
                let mut found = Vec::new();
                library.encode_into(text, &options, &mut found).expect("an encoding");
                ids.extend_from_slice(tokenizers_next::pipeline::PipelineToken::cast_slice(&found));
            })
        }
        #[cfg(not(target_family = "wasm"))]
        Engine::Fastokens => {
            let tokenizer = fastokens::Tokenizer::from_json(serde_json::from_str(&json()?)?)?;
            Box::new(move |text, ids| {
                ids.extend(tokenizer.encode(text).expect("an encoding"));
            })
        }
        #[cfg(not(target_family = "wasm"))]
        Engine::Tiktoken => {
            let bpe = crate::tiktoken::load(&json()?)?;
            Box::new(move |text, ids| ids.extend(bpe.encode_with_special_tokens(text)))
        }
    })
}
