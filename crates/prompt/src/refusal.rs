//! Why a body has no exact token ids.
//!
//! A refusal is not an error: the request goes on by Envoy's own load balancing
//! and a counter named after the refusal goes up. None of them holds prompt text.

/// Why a request's token ids cannot be known exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The body is not JSON, or not an object.
    #[error("the body is not a JSON object in UTF-8")]
    NotJson,
    /// Python's reader takes it (`NaN`, a lone surrogate, a number beyond 128 bits); this one does not.
    #[error("the body holds NaN, infinity, a lone surrogate or a number beyond 128 bits")]
    JsonValue,
    /// Nested too deeply.
    #[error("the body is nested too deeply")]
    JsonDepth,
    /// `model` is absent or no string.
    #[error("the body names no model")]
    NoModel,
    /// The engine answers such a body with an error.
    #[error("the engine does not take this body: {0}")]
    Invalid(&'static str),
    /// Images, audio, video or files: their placeholders are expanded by the model's processor.
    #[error("messages hold media")]
    Media,
    /// Embeddings instead of tokens.
    #[error("the prompt is given as embeddings")]
    PromptEmbeds,
    /// The client brings its own chat template.
    #[error("the request brings its own chat template")]
    RequestTemplate,
    /// It continues an earlier response, which only one engine remembers.
    #[error("the request continues an earlier response")]
    PreviousResponse,
    /// A field whose effect on the prompt is not reproduced.
    #[error("{0} is not reproduced")]
    Unsupported(&'static str),
    /// The folder has no chat template, or the engine renders this model by code of its own.
    #[error("no chat template renders this model as the engine does: {0}")]
    NoTemplate(String),
    /// The template refused the request by `raise_exception`.
    #[error("the chat template refused the request")]
    TemplateRaised,
    /// The template failed, or uses what is not reproduced.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// The template took too many steps, or wrote too much.
    #[error("the chat template exceeded its limits")]
    TemplateLimit,
    /// The encoder failed on the text.
    #[error("the text cannot be encoded")]
    Encoding,
}

impl Refusal {
    /// Stable snake_case name, for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::NotJson => "not_json",
            Refusal::JsonValue => "json_value",
            Refusal::JsonDepth => "json_depth",
            Refusal::NoModel => "no_model",
            Refusal::Invalid(_) => "invalid",
            Refusal::Media => "media",
            Refusal::PromptEmbeds => "prompt_embeds",
            Refusal::RequestTemplate => "request_template",
            Refusal::PreviousResponse => "previous_response",
            Refusal::Unsupported(_) => "unsupported",
            Refusal::NoTemplate(_) => "no_template",
            Refusal::TemplateRaised => "template_raised",
            Refusal::Template(_) => "template",
            Refusal::TemplateLimit => "template_limit",
            Refusal::Encoding => "encoding",
        }
    }
}
