//! A model, ready to turn requests into token ids.

use crate::body::{Asked, Chat, Fitting, Prompt, Side};
use crate::conversation::Conversation;
use crate::spec::ContentFormat;
use crate::template::{Template, Watch, value};
use crate::{Encode, ModelSpec, Refusal, Request};
use minijinja::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of models.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

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
    number: u64,
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
            let compiled = Template::of_prepared(&template.source, &template.prepared)
                .map_err(|reason| ModelError::Template { name: name.clone(), reason })?;
            templates.insert(name.clone(), (compiled, template.content));
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Model { number, spec, templates, encoder })
    }

    /// The ids that the engine computes for `request`.
    ///
    /// `unix_seconds` is the time now, for templates that write the date.
    pub fn tokenize(&self, request: &Request, unix_seconds: u64) -> Result<Prompts, Refusal> {
        let fitting = request.fitting;
        let mut cut = None;
        let ids = |source| match source {
            Source::Ids(ids) => Ok::<_, Refusal>(fitted(ids, fitting)),
            source => {
                let mut ids = self.fit(self.encode(source.text())?, fitting)?;
                cut = self.cut(&source, &mut ids)?;
                Ok(ids)
            }
        };
        let sources = self.sources(&request.prompt, request.fitting, unix_seconds)?;
        let ids: Vec<Vec<u32>> = sources.into_iter().map(ids).collect::<Result<_, _>>()?;
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

    /// The template for `chat`, and the form of content that it takes.
    pub(crate) fn template(&self, chat: &Chat) -> Result<&(Template, ContentFormat), Refusal> {
        let missing = || {
            let reason = self.spec.no_templates.as_deref().unwrap_or("the folder has none");
            Refusal::NoTemplate(reason.to_owned())
        };
        let tool_use = chat.tools.as_ref().and_then(|_| self.templates.get("tool_use"));
        tool_use.or_else(|| self.templates.get("default")).ok_or_else(missing)
    }

    /// The text of `chat`, `watch` noting what the template asks of its messages.
    pub(crate) fn render(
        &self,
        chat: &Chat,
        unix_seconds: u64,
        watch: &Arc<Watch>,
    ) -> Result<String, Refusal> {
        let (template, format) = self.template(chat)?;
        let open = chat.continue_final_message;
        let messages = chat.messages(&self.spec)?;
        let conversation = Conversation::new(&messages, *format, template.source(), open)?;
        let variables = self.variables(chat, conversation.messages(watch))?;
        let text = template.render_watched(variables, unix_seconds, watch, String::new())?;
        conversation.cut(text)
    }

    /// What the template sees of `chat`, whose messages are `messages`.
    pub(crate) fn variables(
        &self,
        chat: &Chat,
        messages: Value,
    ) -> Result<Vec<(Arc<str>, Value)>, Refusal> {
        let optional = |json: &Option<_>| json.as_ref().map_or(Value::from(()), value::from_json);
        let mut variables: Vec<(Arc<str>, Value)> = Vec::new();
        for (name, text) in &self.spec.special_tokens {
            variables.push((Arc::from(name.as_str()), Value::from(text.as_str())));
        }
        variables.extend(value::from_dict(&chat.variables));
        variables.extend(value::from_dict(&chat.efforts(&self.spec)?));
        variables.push((Arc::from("messages"), messages));
        variables.push((Arc::from("tools"), optional(&chat.tools)));
        variables.push((Arc::from("documents"), optional(&chat.documents)));
        let generate = Value::from(chat.add_generation_prompt);
        variables.push((Arc::from("add_generation_prompt"), generate));
        Ok(variables)
    }

    /// What of `prompt` is to be encoded, in order.
    pub(crate) fn sources(
        &self,
        prompt: &Asked,
        fitting: Fitting,
        unix_seconds: u64,
    ) -> Result<Vec<Source>, Refusal> {
        Ok(match prompt {
            // The engine takes these as they are.
            Asked::Ids(ids) => vec![Source::Ids(ids.clone())],
            Asked::Chat(chat) => {
                if chat.media && self.spec.media.is_empty() {
                    return Err(Refusal::Media);
                }
                if chat.media && fitting.keep.is_some() {
                    return Err(Refusal::Unsupported("truncation of media"));
                }
                let text = self.render(chat, unix_seconds, &Arc::default())?;
                vec![Source::Rendered { text, media: chat.media }]
            }
            Asked::Pairs(_) if self.spec.pair_scores => {
                return Err(Refusal::Unsupported("scores of a cross-encoder"));
            }
            Asked::Completions(completions) | Asked::Pairs(completions) => {
                let source = |prompt: &Prompt| match prompt {
                    Prompt::Text(text) => Source::Given(text.clone()),
                    Prompt::Ids(ids) => Source::Ids(ids.clone()),
                };
                completions.prompts.iter().map(source).collect()
            }
        })
    }

    /// The ids that come before and after those of a text.
    pub(crate) fn around(&self, fitting: Fitting) -> (&[u32], &[u32]) {
        if fitting.special { (&self.spec.prefix, &self.spec.suffix) } else { (&[], &[]) }
    }

    /// Adds to a text's ids, and cuts of them, what `fitting` says.
    pub(crate) fn fit(&self, mut ids: Vec<u32>, fitting: Fitting) -> Result<Vec<u32>, Refusal> {
        let (prefix, suffix) = self.around(fitting);
        if let Fitting { keep: Some(keep), side: None, .. } = fitting {
            // Without an explicit side the tokenizer cuts, and it cuts the text's
            // tokens only, from the side that the engine configures.
            let room = keep
                .checked_sub(prefix.len() + suffix.len())
                .ok_or(Refusal::Invalid("truncate_prompt_tokens"))?;
            let excess = ids.len().saturating_sub(room);
            match fitting.usual_side {
                Side::Left => drop(ids.drain(..excess)),
                Side::Right => ids.truncate(ids.len() - excess),
            }
        }
        ids.splice(..0, prefix.iter().copied());
        ids.extend_from_slice(suffix);
        Ok(fitted(ids, fitting))
    }

    /// Cuts the prompt's `ids` at its first image, audio or video, and says so.
    ///
    /// The engine puts what its processor makes of an item in the place of a token
    /// that the template wrote, the first for the first, and leaves what is before
    /// alone.
    pub(crate) fn cut(
        &self,
        source: &Source,
        ids: &mut Vec<u32>,
    ) -> Result<Option<&'static str>, Refusal> {
        if !matches!(source, Source::Rendered { media: true, .. }) {
            return Ok(None);
        }
        let at = ids.iter().position(|id| self.spec.media.contains(id));
        let at = at.filter(|at| *at > 0).ok_or(Refusal::Media)?;
        ids.truncate(at);
        Ok(Some("media"))
    }

    pub(crate) fn encoder(&self) -> &dyn Encode {
        &*self.encoder
    }

    /// A number that no other model in this process has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// What is to be encoded.
#[derive(Debug)]
pub(crate) enum Source {
    /// What a template wrote, with places for media or without.
    Rendered {
        text: String,
        media: bool,
    },
    Given(Arc<str>),
    /// Encoded already.
    Ids(Vec<u32>),
}

impl Source {
    pub(crate) fn text(&self) -> &str {
        match self {
            Source::Rendered { text, .. } => text,
            Source::Given(text) => text,
            Source::Ids(_) => "",
        }
    }
}

pub(crate) fn fitted(mut ids: Vec<u32>, fitting: Fitting) -> Vec<u32> {
    if let Some(keep) = fitting.keep.filter(|keep| *keep < ids.len()) {
        match fitting.side.unwrap_or(fitting.usual_side) {
            Side::Left => drop(ids.drain(..ids.len() - keep)),
            Side::Right => ids.truncate(keep),
        }
    }
    ids
}
