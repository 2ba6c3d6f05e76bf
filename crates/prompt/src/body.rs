//! What a client asks: the engine's request bodies, read as its own models read them.
//!
//! Only what can change the prompt is looked at. The engine refuses many bodies
//! that pass here (a temperature that is text, say); its error answer does not
//! depend on the worker, so leniency costs nothing. The other direction is what
//! matters: a body that the engine takes is read exactly so or refused by name.

mod chat;
mod completions;
mod message;
mod messages;
mod paths;
mod pooling;
mod responses;

pub(crate) use chat::{Chat, Each, known};
pub(crate) use completions::{Completions, Prompt};
pub(crate) use message::{Message, Part};
pub use paths::Endpoint;

use crate::Refusal;
use crate::json::{Dict, Json, JsonError};
use crate::trail::Trail;

/// A body that was read; [`Model::tokenize`](crate::Model::tokenize) makes its token ids.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model, alias or adapter that the client named.
    pub model: String,
    /// The client's prefix-cache salt.
    pub cache_salt: Option<String>,
    pub(crate) prompt: Asked,
    pub(crate) fitting: Fitting,
}

/// What is to become token ids.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Chat(Box<Chat>),
    Completions(Completions),
    /// Queries, then documents, for a model that embeds each of them.
    Pairs(Completions),
    /// The client's own ids, or those that a prefill worker computed.
    Ids(Vec<u32>),
}

/// What happens to the ids after encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fitting {
    /// `add_special_tokens`.
    pub special: bool,
    /// `truncate_prompt_tokens`.
    pub keep: Option<usize>,
    /// `truncation_side`.
    pub side: Option<Side>,
    /// The side where the request names none.
    pub usual_side: Side,
}

impl Fitting {
    /// Nothing is added and nothing cut.
    const AS_IT_IS: Fitting =
        Fitting { special: false, keep: None, side: None, usual_side: Side::Left };
}

/// The side that truncation cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Reads the body of a request to `endpoint`.
pub(crate) fn read(endpoint: Endpoint, body: Json, trail: Trail) -> Result<Request, Refusal> {
    let Json::Dict(mut body) = body else {
        return Err(Refusal::NotJson);
    };
    let model = match body.remove("model") {
        Some(Json::Str(model)) => model.into(),
        _ => return Err(Refusal::NoModel),
    };
    let cache_salt = match body.remove("cache_salt") {
        None | Some(Json::Null) => None,
        Some(Json::Str(salt)) if !salt.is_empty() => Some(salt.into()),
        Some(_) => return Err(Refusal::Invalid("cache_salt")),
    };
    let (prompt, fitting) = match endpoint {
        Endpoint::Chat => {
            let fitting = fitting(&body, false, Side::Left)?;
            (chat::read(body, trail)?, fitting)
        }
        Endpoint::Completions => {
            let fitting = fitting(&body, true, Side::Left)?;
            (Asked::Completions(completions::read(body)?), fitting)
        }
        Endpoint::Responses => (responses::read(body)?, Fitting::AS_IT_IS),
        Endpoint::Messages => (messages::read(body)?, Fitting::AS_IT_IS),
        Endpoint::Embeddings | Endpoint::Pooling | Endpoint::Classify => pooling::read(body)?,
        Endpoint::Score => pooling::score(body)?,
        Endpoint::Rerank => pooling::rerank(body)?,
        Endpoint::Generate => (completions::generate(body)?, Fitting::AS_IT_IS),
    };
    Ok(Request { model, cache_salt, prompt, fitting })
}

fn fitting(body: &Dict, special: bool, usual_side: Side) -> Result<Fitting, Refusal> {
    let keep = match body.given("truncate_prompt_tokens") {
        None => None,
        // -1 keeps what the engine's context length allows, which is not known here.
        Some(Json::Int(-1)) => return Err(Refusal::Unsupported("truncate_prompt_tokens: -1")),
        Some(Json::Int(keep)) => Some(
            usize::try_from(*keep)
                .ok()
                .filter(|keep| *keep > 0)
                .ok_or(Refusal::Invalid("truncate_prompt_tokens"))?,
        ),
        Some(_) => return Err(Refusal::Invalid("truncate_prompt_tokens")),
    };
    let side = match body.given("truncation_side") {
        None => None,
        Some(Json::Str(side)) if side == "left" => Some(Side::Left),
        Some(Json::Str(side)) if side == "right" => Some(Side::Right),
        Some(_) => return Err(Refusal::Invalid("truncation_side")),
    };
    Ok(Fitting { special: flag(body, "add_special_tokens", special)?, keep, side, usual_side })
}

/// A boolean as pydantic reads one outside strict mode.
fn flag(body: &Dict, key: &'static str, default: bool) -> Result<bool, Refusal> {
    let invalid = Err(Refusal::Invalid(key));
    match body.get(key) {
        None => Ok(default),
        Some(Json::Bool(flag)) => Ok(*flag),
        Some(Json::Int(0)) => Ok(false),
        Some(Json::Int(1)) => Ok(true),
        Some(Json::Float(number)) if *number == 0.0 => Ok(false),
        Some(Json::Float(number)) if *number == 1.0 => Ok(true),
        Some(Json::Str(word)) => match word.to_ascii_lowercase().as_str() {
            "0" | "off" | "f" | "false" | "n" | "no" => Ok(false),
            "1" | "on" | "t" | "true" | "y" | "yes" => Ok(true),
            _ => invalid,
        },
        Some(_) => invalid,
    }
}

/// Token ids as the client wrote them.
fn ids(items: &[Json], what: &'static str) -> Result<Vec<u32>, Refusal> {
    items
        .iter()
        .map(|item| match item {
            Json::Int(id) => u32::try_from(*id).map_err(|_| Refusal::Invalid(what)),
            _ => Err(Refusal::Invalid(what)),
        })
        .collect()
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Refusal {
        match error {
            JsonError::Syntax => Refusal::NotJson,
            JsonError::Unrepresentable => Refusal::JsonValue,
            JsonError::Depth => Refusal::JsonDepth,
        }
    }
}

#[cfg(test)]
mod tests;
