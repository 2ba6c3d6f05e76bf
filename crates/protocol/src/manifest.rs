//! What the filter must know of the models behind it.

use serde::{Deserialize, Serialize};

/// Every model of the fleet, and where its tokenizer is found.
///
/// The filter polls it; `revision` changes exactly when the rest does, and the
/// indexer answers `304` to an `if-none-match` that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Hash of `models`.
    pub revision: String,
    /// One entry for each base model.
    pub models: Vec<ManifestModel>,
}

/// One base model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestModel {
    /// The served name.
    pub name: String,
    /// Other names that its workers answer to.
    pub aliases: Vec<String>,
    /// LoRA adapters: names that a client may send as `model`, and that move
    /// the hashes' seed.
    pub adapters: Vec<String>,
    /// Block sizes in tokens that its workers use, ascending; configured or
    /// learned from their events.
    pub block_sizes: Vec<u32>,
    /// How prompts are rendered: JSON of `warmpath_prompt::ModelSpec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Resource>,
    /// The compiled tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<Resource>,
    /// Why `spec` or `table` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Whether they are still being made, as for a moment after the indexer's
    /// start: what a reader has of the model is good until they are there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compiling: bool,
}

/// A content-addressed file under [`TABLES_PATH`](crate::TABLES_PATH).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Hex SHA-256 of the content; its name.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
    /// What the bytes are, for readers that know several formats.
    pub format: String,
}

impl ManifestModel {
    /// Whether a client that sends `name` as `model` means this model.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name
            || self.aliases.iter().any(|alias| alias == name)
            || self.adapters.iter().any(|adapter| adapter == name)
    }

    /// The adapter that `name` is, if it is one.
    pub fn adapter(&self, name: &str) -> Option<&str> {
        self.adapters.iter().find(|adapter| *adapter == name).map(String::as_str)
    }
}
