//! Messages as the engine validates and normalises them.
//!
//! Content is kept as parts, because whether it reaches the template as text or as
//! a list of parts is the template's property, not the request's.

use crate::Refusal;
use crate::json::{self, Dict, Json, JsonError, Str};
use std::sync::Arc;

/// One message, its content not yet in the template's form.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub role: Str,
    pub parts: Vec<Part>,
    /// What follows `role` and `content`, in the engine's order.
    pub rest: Dict,
}

impl Message {
    /// Whether some part is not text.
    pub(super) fn has_media(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Media { .. }))
    }

    /// Adds calls, in their final form, and reasoning to a message of the assistant.
    pub(super) fn says(&mut self, calls: Vec<Json>, reasoning: Option<Str>) {
        let mut rest = Dict::default();
        if !calls.is_empty() {
            rest.set("tool_calls", Json::List(calls));
        }
        if let Some(reasoning) = reasoning {
            rest.set("reasoning", Json::Str(reasoning.clone()));
            rest.set("reasoning_content", Json::Str(reasoning));
        }
        rest.append(std::mem::take(&mut self.rest));
        self.rest = rest;
    }
}

/// One part of a message's content.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Text, and the keys of its part that the engine passes on.
    Text { text: Arc<str>, extra: Dict },
    /// An image, audio or video, as `kind` says; the template marks its place.
    Media { kind: &'static str, extra: Dict },
    /// A tool whose definition the template is to expand.
    ToolReference(Arc<str>),
}

/// Keys of text parts that do not reach the template: the engine knows them from
/// its types of content parts, whichever part they appear in.
const KNOWN_PART_KEYS: [&str; 18] = [
    "audio_embeds",
    "audio_url",
    "closed",
    "data",
    "file",
    "image_embeds",
    "image_pil",
    "image_url",
    "input_audio",
    "name",
    "prompt_cache_breakpoint",
    "refusal",
    "text",
    "thinking",
    "type",
    "uuid",
    "video_embeds",
    "video_url",
];
/// Keys that make a part media where its type is missing or it has a `uuid`, in the
/// order in which the engine looks for them, and what they make it.
const MEDIA_KEYS: [(&str, &str); 8] = [
    ("image_url", "image"),
    ("image_pil", "image"),
    ("image_embeds", "image"),
    ("audio_embeds", "audio"),
    ("video_embeds", "video"),
    ("audio_url", "audio"),
    ("input_audio", "audio"),
    ("video_url", "video"),
];
/// Types of media parts that have no key of the same name.
const INPUT_IMAGE: &str = "input_image";

const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// Reads one message.
pub(super) fn read(message: Json) -> Result<Message, Refusal> {
    let Json::Dict(mut message) = message else {
        return Err(Refusal::Invalid("messages"));
    };
    let Some(Json::Str(role)) = message.remove("role") else {
        return Err(Refusal::Invalid("role"));
    };
    let content = match message.remove("content") {
        None | Some(Json::Null) => Vec::new(),
        Some(text @ Json::Str(_)) => vec![text],
        Some(Json::List(parts)) => parts,
        Some(_) => return Err(Refusal::Invalid("content")),
    };
    let mut parts = Vec::with_capacity(content.len());
    for item in content {
        parts.extend(part(item, role == "system")?);
    }
    let rest = rest(&role, message)?;
    Ok(Message { role, parts, rest })
}

fn part(part: Json, system: bool) -> Result<Option<Part>, Refusal> {
    const INVALID: Refusal = Refusal::Invalid("content");
    let mut part = match part {
        Json::Str(text) => {
            let text = if system { without_billing_header(&text) } else { Some(text.into()) };
            return Ok(text.map(|text| Part::Text { text, extra: Dict::default() }));
        }
        Json::Dict(part) => part,
        _ => return Err(INVALID),
    };
    let named = match part.remove("type") {
        None => None,
        Some(Json::Str(kind)) => Some(kind),
        Some(_) => return Err(INVALID),
    };
    let keyed = || MEDIA_KEYS.iter().find(|(key, _)| part.get(key).is_some());
    let kind = match named {
        Some(kind) if part.given("uuid").is_none() => kind,
        Some(kind) if kind == "prompt_embeds" => return Err(Refusal::PromptEmbeds),
        None if part.given("prompt_embeds").is_some() => return Err(Refusal::PromptEmbeds),
        _ => match keyed() {
            Some((_, kind)) => return Ok(Some(media(kind, part))),
            None => return Err(INVALID),
        },
    };
    let key = match kind.as_str() {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        "thinking" => "thinking",
        "tool_reference" => "name",
        "prompt_embeds" => return Err(Refusal::PromptEmbeds),
        "file" => return Err(Refusal::Media),
        INPUT_IMAGE => return Ok(Some(media("image", part))),
        other => match MEDIA_KEYS.iter().find(|(key, _)| *key == other) {
            Some((_, kind)) => return Ok(Some(media(kind, part))),
            None => return Err(INVALID),
        },
    };
    let Some(Json::Str(text)) = part.remove(key) else { return Err(INVALID) };
    let text = match without_billing_header(&text) {
        _ if kind != "text" || !system => text.into(),
        Some(rest) => rest,
        None => return Ok(None),
    };
    if kind == "tool_reference" {
        return Ok((!text.is_empty()).then_some(Part::ToolReference(text)));
    }
    Ok(Some(Part::Text { text, extra: extra(part) }))
}

fn extra(part: Dict) -> Dict {
    part.into_iter().filter(|(key, _)| !KNOWN_PART_KEYS.contains(&key.as_str())).collect()
}

fn media(kind: &'static str, part: Dict) -> Part {
    Part::Media { kind, extra: extra(part) }
}

/// System text without the line that the engine drops from it, since it differs on
/// every request; nothing where nothing is left.
fn without_billing_header(text: &str) -> Option<Arc<str>> {
    if !text.starts_with(BILLING_HEADER) {
        return Some(text.into());
    }
    let (_, rest) = text.split_once('\n')?;
    (!rest.is_empty()).then(|| rest.into())
}

fn rest(role: &str, mut message: Dict) -> Result<Dict, Refusal> {
    let mut rest = Dict::default();
    let reasoning_content = message.remove("reasoning_content").filter(|value| !value.is_null());
    let reasoning =
        message.remove("reasoning").filter(|value| !value.is_null()).or(reasoning_content);
    match role {
        "assistant" => {
            match message.remove("tool_calls") {
                None | Some(Json::Null) => {}
                Some(Json::List(calls)) if calls.is_empty() => {}
                Some(Json::List(calls)) => {
                    let calls = calls.into_iter().map(tool_call).collect::<Result<_, _>>()?;
                    rest.set("tool_calls", Json::List(calls));
                }
                Some(_) => return Err(Refusal::Invalid("tool_calls")),
            }
            if let Some(reasoning) = reasoning {
                rest.set("reasoning", reasoning.clone());
                rest.set("reasoning_content", reasoning);
            }
        }
        "tool" => {
            if let Some(id) = message.remove("tool_call_id") {
                rest.set("tool_call_id", id);
            }
        }
        _ => {}
    }
    for key in ["name", "task"] {
        if let Some(value @ Json::Str(_)) = message.remove(key) {
            rest.set(key, value);
        }
    }
    if role == "developer" {
        if message.given("tools").is_some() {
            return Err(Refusal::Unsupported("tools of a developer message"));
        }
        rest.set("tools", Json::Null);
    }
    Ok(rest)
}

/// A call as validated and postprocessed: known keys first and in the order of
/// their schema, others after them, and the arguments an object.
fn tool_call(call: Json) -> Result<Json, Refusal> {
    const INVALID: Refusal = Refusal::Invalid("tool_calls");
    let (Json::Dict(mut call), mut ordered) = (call, Dict::default()) else {
        return Err(INVALID);
    };
    let (Some(id @ Json::Str(_)), Some(Json::Dict(mut given)), Some(kind)) =
        (call.remove("id"), call.remove("function"), call.remove("type"))
    else {
        return Err(INVALID);
    };
    let (Some(Json::Str(arguments)), Some(name @ Json::Str(_)), Some("function")) =
        (given.remove("arguments"), given.remove("name"), kind.as_str())
    else {
        return Err(INVALID);
    };
    let mut function = Dict::default();
    function.set("arguments", Json::Dict(decoded(&arguments)?));
    function.set("name", name);
    function.append(given);
    ordered.set("id", id);
    ordered.set("function", Json::Dict(function));
    ordered.set("type", kind);
    ordered.append(call);
    Ok(Json::Dict(ordered))
}

/// What is no JSON object counts as an empty one.
pub(super) fn decoded(arguments: &str) -> Result<Dict, Refusal> {
    match json::read(arguments) {
        Ok(Json::Dict(arguments)) => Ok(arguments),
        Ok(_) | Err(JsonError::Syntax) => Ok(Dict::default()),
        Err(error) => Err(error.into()),
    }
}
