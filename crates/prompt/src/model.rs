//! A model, ready to turn requests into token ids.

use crate::body::{Asked, Chat, Fitting, Prompt, Side};
use crate::conversation::Conversation;
use crate::spec::ContentFormat;
use crate::template::{Template, value};
use crate::{ModelSpec, Refusal, Request};
use minijinja::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Text to token ids: the seam between this crate and its tokenizers.
pub trait Encode: Send + Sync {
    /// Appends the ids of `text`. Adds no special tokens, but recognises those in
    /// the text, as the engine does.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal>;
}

/// Why a [`ModelSpec`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A chat template does not compile.
    #[error("chat template {name} does not compile: {reason}")]
    Template {
        /// The template's name.
        name: String,
        /// The compiler's words.
        reason: String,
    },
}

/// A [`ModelSpec`] compiled, and an encoder.
pub struct Model {
    spec: ModelSpec,
    templates: BTreeMap<String, (Template, ContentFormat)>,
    encoder: Box<dyn Encode>,
}

/// A request's token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// One entry for each prompt; never empty, and neither is any entry.
    pub ids: Vec<Vec<u32>>,
    /// Why the ids end before their prompt does: `media`.
    pub cut: Option<&'static str>,
}

impl Model {
    /// Compiles the templates of `spec`.
    pub fn new(spec: ModelSpec, encoder: Box<dyn Encode>) -> Result<Model, ModelError> {
        let mut templates = BTreeMap::new();
        for (name, template) in &spec.templates {
            let compiled = Template::new(&template.source)
                .map_err(|reason| ModelError::Template { name: name.clone(), reason })?;
            templates.insert(name.clone(), (compiled, template.content));
        }
        Ok(Model { spec, templates, encoder })
    }

    /// The ids that the engine computes for `request`.
    ///
    /// `unix_seconds` is the time now, for templates that write the date.
    pub fn tokenize(&self, request: &Request, unix_seconds: u64) -> Result<Prompts, Refusal> {
        let fitting = request.fitting;
        let mut cut = None;
        let ids = match &request.prompt {
            Asked::Ids(ids) => vec![ids.clone()],
            Asked::Chat(chat) => {
                if chat.media && self.spec.media.is_empty() {
                    return Err(Refusal::Media);
                }
                if chat.media && fitting.keep.is_some() {
                    return Err(Refusal::Unsupported("truncation of media"));
                }
                let mut ids = self.fit_text(&self.render(chat, unix_seconds)?, fitting)?;
                cut = chat.cut(&self.spec, &mut ids)?;
                vec![ids]
            }
            Asked::Pairs(_) if self.spec.pair_scores => {
                return Err(Refusal::Unsupported("scores of a cross-encoder"));
            }
            Asked::Completions(completions) | Asked::Pairs(completions) => completions
                .prompts
                .iter()
                .map(|prompt| match prompt {
                    Prompt::Text(text) => self.fit_text(text, fitting),
                    Prompt::Ids(ids) => Ok(fitted(ids.clone(), fitting)),
                })
                .collect::<Result<_, _>>()?,
        };
        if ids.iter().any(Vec::is_empty) {
            return Err(Refusal::Invalid("an empty prompt"));
        }
        Ok(Prompts { ids, cut })
    }

    /// The ids of bare text, without special tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Refusal> {
        let mut ids = Vec::new();
        self.encoder.encode(text, &mut ids)?;
        Ok(ids)
    }

    fn render(&self, chat: &Chat, unix_seconds: u64) -> Result<String, Refusal> {
        let missing = || {
            let reason = self.spec.no_templates.as_deref().unwrap_or("the folder has none");
            Refusal::NoTemplate(reason.to_owned())
        };
        let tool_use = chat.tools.as_ref().and_then(|_| self.templates.get("tool_use"));
        let (template, format) =
            tool_use.or_else(|| self.templates.get("default")).ok_or_else(missing)?;
        let open = chat.continue_final_message;
        let conversation =
            Conversation::new(chat.messages(&self.spec)?, *format, template.source(), open)?;

        let optional = |json: &Option<_>| json.as_ref().map_or(Value::from(()), value::from_json);
        let mut variables: Vec<(Arc<str>, Value)> = Vec::new();
        for (name, text) in &self.spec.special_tokens {
            variables.push((Arc::from(name.as_str()), Value::from(text.as_str())));
        }
        variables.extend(value::from_dict(&chat.variables));
        variables.extend(value::from_dict(&chat.efforts(&self.spec)?));
        variables.push((Arc::from("messages"), conversation.messages()));
        variables.push((Arc::from("tools"), optional(&chat.tools)));
        variables.push((Arc::from("documents"), optional(&chat.documents)));
        let generate = Value::from(chat.add_generation_prompt);
        variables.push((Arc::from("add_generation_prompt"), generate));
        conversation.cut(template.render(variables, unix_seconds)?)
    }

    /// Encodes `text`, then adds and cuts what `fitting` says.
    fn fit_text(&self, text: &str, fitting: Fitting) -> Result<Vec<u32>, Refusal> {
        let (prefix, suffix): (&[u32], &[u32]) =
            if fitting.special { (&self.spec.prefix, &self.spec.suffix) } else { (&[], &[]) };
        let mut ids = prefix.to_vec();
        self.encoder.encode(text, &mut ids)?;
        if let Fitting { keep: Some(keep), side: None, .. } = fitting {
            // Without an explicit side the tokenizer cuts, and it cuts the text's
            // tokens only, from the side that the engine configures.
            let room = keep
                .checked_sub(prefix.len() + suffix.len())
                .ok_or(Refusal::Invalid("truncate_prompt_tokens"))?;
            let content = ids.len() - prefix.len();
            let excess = content.saturating_sub(room);
            match fitting.usual_side {
                Side::Left => drop(ids.drain(prefix.len()..prefix.len() + excess)),
                Side::Right => ids.truncate(ids.len() - excess),
            }
        }
        ids.extend_from_slice(suffix);
        Ok(fitted(ids, fitting))
    }
}

fn fitted(mut ids: Vec<u32>, fitting: Fitting) -> Vec<u32> {
    if let Some(keep) = fitting.keep.filter(|keep| *keep < ids.len()) {
        match fitting.side.unwrap_or(fitting.usual_side) {
            Side::Left => drop(ids.drain(..ids.len() - keep)),
            Side::Right => ids.truncate(keep),
        }
    }
    ids
}
