//! What a model's prompts are made of, apart from its vocabulary.
//!
//! The indexer reads it from the model's folder, the filter gets it as JSON. It
//! holds results, not files: which special tokens encoding adds is found by
//! encoding, which form of content a template takes by reading its syntax tree,
//! so that the filter needs neither the library nor the parser's tree.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names the JSON layout of [`ModelSpec`].
pub const SPEC_FORMAT: &str = "warmpath-spec-3";

/// How a model's prompts are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    /// Chat templates by name; `default` is used unless there are tools and a
    /// template `tool_use`.
    pub templates: BTreeMap<String, ChatTemplate>,
    /// Why there are none, where the model has a chat format all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_templates: Option<String>,
    /// Variables that every template sees: `bos_token`, `eos_token`, … to their text.
    pub special_tokens: BTreeMap<String, String>,
    /// Ids that `add_special_tokens` puts before a prompt.
    pub prefix: Vec<u32>,
    /// Ids that `add_special_tokens` puts after a prompt.
    pub suffix: Vec<u32>,
    /// Whether the templates take a system message at the front only; unknown where
    /// trying it out failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_first: Option<bool>,
    /// The reasoning effort that stands for thinking turned off; unknown where trying
    /// it out failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_effort: Option<String>,
    /// Ids at whose first one the engine begins to put images, audio or videos in;
    /// empty where the model takes none, or not so simply.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<u32>,
    /// Whether the model scores a query and a document together, as one prompt.
    pub pair_scores: bool,
}

/// One Jinja template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatTemplate {
    /// Jinja source, as in the model's folder.
    pub source: String,
    /// What is rendered instead, made of it once so that the VM need not.
    pub prepared: String,
    /// How it takes a message's content.
    pub content: ContentFormat,
}

impl ChatTemplate {
    /// The template of this source; the error says why it can not be compiled.
    #[cfg(feature = "library")]
    pub fn new(source: String, content: ContentFormat) -> Result<ChatTemplate, String> {
        let prepared = crate::template::prepared(&source)?;
        Ok(ChatTemplate { source, prepared, content })
    }
}

/// How a template takes a message's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentFormat {
    /// As text; parts are joined by line feeds.
    #[default]
    String,
    /// As a list of parts.
    Openai,
}
