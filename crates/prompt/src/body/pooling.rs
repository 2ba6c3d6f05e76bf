//! Embeddings, pooling, classification, scores: prompts that nothing is generated for.
//!
//! Texts and ids get special tokens where those of completions do; a conversation
//! is rendered without the generation prompt. What is too long loses its end, not
//! its beginning. A score or a ranking is taken to be a
//! bi-encoder's, which embeds every query and then every document; the engine makes
//! other prompts of them for a cross-encoder, and which one a model is, its folder
//! says (`ModelSpec::pair_scores`).

use super::completions::{Completions, Prompt, prompts, text_prompt};
use super::{Asked, Fitting, Side, chat, fitting};
use crate::Refusal;
use crate::json::{Dict, Json};
use crate::trail::Trail;

type Read = Result<(Asked, Fitting), Refusal>;

/// `/v1/embeddings`, `/pooling` and `/classify`.
pub(super) fn read(mut body: Dict) -> Read {
    check(&body)?;
    let input = body.remove("input");
    if body.get("messages").is_none() {
        return match conversation(input)? {
            Input::Messages(messages) => {
                body.set("messages", messages);
                chat(body)
            }
            Input::Prompts(prompts) => {
                let fitting = fitting(&body, true, Side::Right)?;
                Ok((Asked::Completions(Completions { prompts }), fitting))
            }
        };
    }
    match input {
        None => chat(body),
        // The engine decides by which of its models fits best.
        Some(_) => Err(Refusal::Unsupported("messages beside input")),
    }
}

enum Input {
    Messages(Json),
    Prompts(Vec<Prompt>),
}

fn conversation(input: Option<Json>) -> Result<Input, Refusal> {
    match input {
        Some(Json::List(items)) => match items.first() {
            Some(Json::Dict(_)) => Ok(Input::Messages(Json::List(items))),
            Some(Json::List(inner)) if matches!(inner.first(), Some(Json::Dict(_))) => Err(BATCH),
            _ => prompts(Some(Json::List(items)), "input").map(Input::Prompts),
        },
        input => prompts(input, "input").map(Input::Prompts),
    }
}

const BATCH: Refusal = Refusal::Unsupported("several conversations");

fn chat(mut body: Dict) -> Read {
    if let Some(Json::List(messages)) = body.get("messages")
        && matches!(messages.first(), Some(Json::List(_)))
    {
        return Err(BATCH);
    }
    let fitting = fitting(&body, false, Side::Right)?;
    if body.get("add_generation_prompt").is_none() {
        body.set("add_generation_prompt", Json::Bool(false));
    }
    // Fields of chat completions that these requests do not have.
    for field in ["tools", "documents", "reasoning_effort", "kv_transfer_params"] {
        body.remove(field);
    }
    chat::read(body, Trail::default()).map(|asked| (asked, fitting))
}

fn check(body: &Dict) -> Result<(), Refusal> {
    if body.get("normalize").is_some() {
        return Err(Refusal::Invalid("normalize"));
    }
    match body.given("padding") {
        None => Ok(()),
        Some(Json::Str(padding)) if padding == "do_not_pad" => Ok(()),
        Some(_) => Err(Refusal::Unsupported("padding")),
    }
}

/// Names that `/score` knows for its two sides.
const SIDES: [(&str, &str); 4] =
    [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")];

/// `/score`.
pub(super) fn score(mut body: Dict) -> Read {
    let given: Vec<&(&str, &str)> = SIDES
        .iter()
        .filter(|(one, two)| body.get(one).is_some() && body.get(two).is_some())
        .collect();
    let [(one, two)] = given.as_slice() else {
        return Err(match given.is_empty() {
            true => Refusal::Invalid("score"),
            false => Refusal::Unsupported("several names of the same"),
        });
    };
    let (one, two) = (body.remove(one), body.remove(two));
    pairs(body, texts(one)?, texts(two)?)
}

/// `/rerank`.
pub(super) fn rerank(mut body: Dict) -> Read {
    let query = match body.remove("query") {
        Some(Json::List(_)) => return Err(Refusal::Invalid("query")),
        query => texts(query)?,
    };
    let documents = texts(body.remove("documents"))?;
    pairs(body, query, documents)
}

fn pairs(body: Dict, one: Vec<Prompt>, two: Vec<Prompt>) -> Read {
    check(&body)?;
    for field in ["max_tokens_per_query", "max_tokens_per_doc"] {
        if !matches!(body.get(field), None | Some(Json::Int(0))) {
            return Err(Refusal::Unsupported("a limit for queries or documents"));
        }
    }
    if one.is_empty() || two.is_empty() || (one.len() > 1 && one.len() != two.len()) {
        return Err(Refusal::Invalid("score"));
    }
    let fitting = Fitting { special: true, ..fitting(&body, true, Side::Right)? };
    let prompts = one.into_iter().chain(two).collect();
    Ok((Asked::Pairs(Completions { prompts }), fitting))
}

fn texts(given: Option<Json>) -> Result<Vec<Prompt>, Refusal> {
    let items = match given {
        Some(Json::List(items)) => items,
        Some(item) => vec![item],
        None => return Err(Refusal::Invalid("score")),
    };
    let text = |item| match item {
        Json::Str(text) => Ok(text_prompt(text)),
        // A list of parts, media among them as a rule.
        Json::Dict(_) => Err(Refusal::Media),
        _ => Err(Refusal::Invalid("score")),
    };
    items.into_iter().map(text).collect()
}
