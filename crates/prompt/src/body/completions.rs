//! `/v1/completions`: a prompt in one of its four forms, or several of them; and
//! `/inference/v1/generate`: ids.

use super::{Asked, ids};
use crate::Refusal;
use crate::json::{Dict, Json, Str};
use std::sync::Arc;

/// The prompts of one request, in the client's order.
#[derive(Clone, Debug)]
pub(crate) struct Completions {
    pub prompts: Vec<Prompt>,
}

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(Arc<str>),
    Ids(Vec<u32>),
}

const PROMPT: &str = "prompt";

pub(super) fn read(mut body: Dict) -> Result<Completions, Refusal> {
    match body.given("prompt_embeds") {
        None => {}
        Some(Json::List(embeds)) if embeds.is_empty() => {}
        // Embeddings come before the prompt, whatever that is.
        Some(_) => return Err(Refusal::PromptEmbeds),
    }
    if body.given("suffix").is_some() {
        return Err(Refusal::Unsupported("suffix"));
    }
    prompts(body.remove(PROMPT), PROMPT).map(|prompts| Completions { prompts })
}

/// The ids of a body that has nothing else; the engine adds nothing to them.
pub(super) fn generate(mut body: Dict) -> Result<Asked, Refusal> {
    const WHAT: &str = "token_ids";
    let media = |key| match body.given(key) {
        None => false,
        Some(Json::List(items)) => !items.is_empty(),
        Some(_) => true,
    };
    if media("features") || media("content_parts") {
        return Err(Refusal::Media);
    }
    match body.remove(WHAT) {
        Some(Json::List(items)) if !items.is_empty() => ids(&items, WHAT).map(Asked::Ids),
        _ => Err(Refusal::Invalid(WHAT)),
    }
}

/// The prompts in the field `what`, at least one.
pub(super) fn prompts(given: Option<Json>, what: &'static str) -> Result<Vec<Prompt>, Refusal> {
    let prompts = match given {
        Some(Json::Str(text)) => vec![text_prompt(text)],
        Some(Json::List(items)) => list(items, what)?,
        _ => return Err(Refusal::Invalid(what)),
    };
    if prompts.is_empty() { Err(Refusal::Invalid(what)) } else { Ok(prompts) }
}

fn list(items: Vec<Json>, what: &'static str) -> Result<Vec<Prompt>, Refusal> {
    match items.first() {
        Some(Json::Int(_)) => Ok(vec![Prompt::Ids(ids(&items, what)?)]),
        Some(Json::Str(_)) => items
            .into_iter()
            .map(|item| match item {
                Json::Str(text) => Ok(text_prompt(text)),
                _ => Err(Refusal::Invalid(what)),
            })
            .collect(),
        Some(Json::List(_)) => items
            .iter()
            .map(|item| match item {
                Json::List(inner) => ids(inner, what).map(Prompt::Ids),
                _ => Err(Refusal::Invalid(what)),
            })
            .collect(),
        _ => Err(Refusal::Invalid(what)),
    }
}

pub(super) fn text_prompt(text: Str) -> Prompt {
    Prompt::Text(text.into())
}
