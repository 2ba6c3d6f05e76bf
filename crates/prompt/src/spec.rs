//! How a model's prompts are made.
use serde::{Deserialize, Serialize};

/// Names the JSON layout of [`ModelSpec`].
pub const SPEC_FORMAT: &str = "warmpath-spec-1";

/// How a model's prompts are made; travels as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {}
