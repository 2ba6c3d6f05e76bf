//! `/v1/completions`: a prompt in one of its four forms, or several of them.

use super::ids;
use crate::Refusal;
use crate::json::{Dict, Json};
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
    let prompts = match body.remove(PROMPT) {
        Some(Json::Str(text)) => vec![text_prompt(text)],
        Some(Json::List(items)) => list(items)?,
        _ => return Err(Refusal::Invalid(PROMPT)),
    };
    if prompts.is_empty() {
        return Err(Refusal::Invalid(PROMPT));
    }
    Ok(Completions { prompts })
}

fn list(items: Vec<Json>) -> Result<Vec<Prompt>, Refusal> {
    match items.first() {
        Some(Json::Int(_)) => Ok(vec![Prompt::Ids(ids(&items, PROMPT)?)]),
        Some(Json::Str(_)) => items
            .into_iter()
            .map(|item| match item {
                Json::Str(text) => Ok(text_prompt(text)),
                _ => Err(Refusal::Invalid(PROMPT)),
            })
            .collect(),
        Some(Json::List(_)) => items
            .iter()
            .map(|item| match item {
                Json::List(inner) => ids(inner, PROMPT).map(Prompt::Ids),
                _ => Err(Refusal::Invalid(PROMPT)),
            })
            .collect(),
        _ => Err(Refusal::Invalid(PROMPT)),
    }
}

fn text_prompt(text: String) -> Prompt {
    Prompt::Text(text.into())
}
