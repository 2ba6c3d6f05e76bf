//! `/v1/chat/completions`: messages, tools and what else a template sees.
//!
//! Messages are kept as parts, because whether content reaches the template as
//! text or as a list of parts is the template's property, not the request's.

use super::{Asked, flag, ids};
use crate::Refusal;
use crate::json::{self, Dict, Json, JsonError};
use std::sync::Arc;

/// A conversation, and what is passed to the template with it.
#[derive(Clone, Debug)]
pub(crate) struct Chat {
    pub messages: Vec<Message>,
    /// As the engine dumps them: fixed keys in fixed order.
    pub tools: Option<Json>,
    pub documents: Option<Json>,
    /// Further variables of the template.
    pub variables: Dict,
    pub add_generation_prompt: bool,
    pub continue_final_message: bool,
}

/// One message, its content not yet in the template's form.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub role: String,
    pub parts: Vec<Part>,
    /// What follows `role` and `content`, in the engine's order.
    pub rest: Dict,
}

/// One part of a message's content.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Text, and the keys of its part that the engine passes on.
    Text { text: Arc<str>, extra: Dict },
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
const MEDIA_KEYS: [&str; 9] = [
    "image_url",
    "image_pil",
    "image_embeds",
    "audio_embeds",
    "video_embeds",
    "audio_url",
    "input_audio",
    "video_url",
    "input_image",
];
const MEDIA_TYPES: [&str; 10] = [
    "image_url",
    "input_image",
    "image_pil",
    "image_embeds",
    "audio_url",
    "input_audio",
    "audio_embeds",
    "video_url",
    "video_embeds",
    "file",
];
/// Arguments of transformers' `apply_chat_template` itself: taken from
/// `chat_template_kwargs`, without effect on text, and invisible to the template.
const SWALLOWED: [&str; 6] =
    ["padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"];
/// Names that collide with the engine's own arguments or with the template's globals.
const RESERVED: [&str; 20] = [
    "conversation",
    "messages",
    "tools",
    "tokenize",
    "model_config",
    "tokenizer",
    "return_assistant_tokens_mask",
    "range",
    "dict",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
    "raise_exception",
    "strftime_now",
    "loop",
    "self",
    "caller",
    "varargs",
    "kwargs",
];
const BILLING_HEADER: &str = "x-anthropic-billing-header";
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

pub(super) fn read(mut body: Dict) -> Result<Asked, Refusal> {
    let template = body.given("chat_template").is_some()
        || matches!(body.get("chat_template_kwargs"),
            Some(Json::Dict(kwargs)) if kwargs.given("chat_template").is_some());
    if template {
        return Err(Refusal::RequestTemplate);
    }
    let Some(Json::List(messages)) = body.remove("messages") else {
        return Err(Refusal::Invalid("messages"));
    };
    let messages: Vec<Message> = messages.into_iter().map(message).collect::<Result<_, _>>()?;
    if let Some(ids) = transferred(&body)? {
        return Ok(Asked::Ids(ids));
    }
    if messages.is_empty() {
        return Err(Refusal::Invalid("messages"));
    }
    let add_generation_prompt = flag(&body, "add_generation_prompt", true)?;
    let continue_final_message = flag(&body, "continue_final_message", false)?;
    if add_generation_prompt && continue_final_message {
        return Err(Refusal::Invalid("continue_final_message with add_generation_prompt"));
    }
    let mut variables = variables(&mut body)?;
    let documents = match body.remove("documents") {
        None | Some(Json::Null) => variables.remove("documents"),
        given => given,
    };
    Ok(Asked::Chat(Box::new(Chat {
        messages,
        tools: tools(&body)?,
        documents: documents.map(checked_documents).transpose()?,
        variables,
        add_generation_prompt,
        continue_final_message,
    })))
}

/// Ids that the prefill stage of a disaggregated deployment hands on; the engine
/// takes them instead of rendering, except where it must echo the prompt.
fn transferred(body: &Dict) -> Result<Option<Vec<u32>>, Refusal> {
    const WHAT: &str = "kv_transfer_params.prompt_token_ids";
    let given = body.get("kv_transfer_params").and_then(Json::as_dict);
    match given.and_then(|params| params.given("prompt_token_ids")) {
        None => Ok(None),
        Some(_) if flag(body, "echo", false)? => Ok(None),
        Some(Json::List(items)) if !items.is_empty() => ids(items, WHAT).map(Some),
        Some(_) => Err(Refusal::Invalid(WHAT)),
    }
}

/// `chat_template_kwargs` and the fields that act as such.
fn variables(body: &mut Dict) -> Result<Dict, Refusal> {
    let mut variables = match body.remove("chat_template_kwargs") {
        None | Some(Json::Null) => Dict::default(),
        Some(Json::Dict(kwargs)) => kwargs,
        Some(_) => return Err(Refusal::Invalid("chat_template_kwargs")),
    };
    match body.remove("reasoning_effort") {
        None | Some(Json::Null) => {}
        Some(Json::Str(effort)) if EFFORTS.contains(&effort.as_str()) => {
            if variables.get("enable_thinking").is_none() {
                variables.set("enable_thinking", Json::Bool(effort != "none"));
            }
            variables.set("reasoning_effort", Json::Str(effort));
        }
        Some(_) => return Err(Refusal::Invalid("reasoning_effort")),
    }
    let mut kept = Dict::default();
    for (name, value) in variables {
        // The engine merges these over its defaults, and what equals None or
        // "auto" counts as not given.
        if value.is_null() || value.as_str() == Some("auto") {
            continue;
        }
        // The body's own fields of these names always win.
        if matches!(name.as_str(), "add_generation_prompt" | "continue_final_message") {
            continue;
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(Refusal::Unsupported("a name in chat_template_kwargs"));
        }
        if !SWALLOWED.contains(&name.as_str()) {
            kept.set(&name, value);
        }
    }
    Ok(kept)
}

fn checked_documents(documents: Json) -> Result<Json, Refusal> {
    match &documents {
        Json::List(items) if items.iter().all(|item| item.as_dict().is_some()) => Ok(documents),
        _ => Err(Refusal::Invalid("documents")),
    }
}

/// Tools as the engine's models dump them: unknown keys gone, `description` and
/// `parameters` always there, `strict` and `defer_loading` only where given.
fn tools(body: &Dict) -> Result<Option<Json>, Refusal> {
    const INVALID: Refusal = Refusal::Invalid("tools");
    let tools = match body.given("tools") {
        None => return Ok(None),
        Some(Json::List(tools)) if !tools.is_empty() => tools,
        Some(_) => return Err(INVALID),
    };
    let dump = |tool: &Json| -> Result<Json, Refusal> {
        let tool = tool.as_dict().ok_or(INVALID)?;
        if tool.get("type").is_some_and(|kind| kind.as_str() != Some("function")) {
            return Err(INVALID);
        }
        let given = tool.get("function").and_then(Json::as_dict).ok_or(INVALID)?;
        let optional = |dict: &Dict, key: &str, fits: fn(&Json) -> bool| match dict.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) if fits(value) => Ok(Some(value.clone())),
            Some(_) => Err(INVALID),
        };
        let is_str = |value: &Json| value.as_str().is_some();
        let is_dict = |value: &Json| value.as_dict().is_some();
        let is_bool = |value: &Json| matches!(value, Json::Bool(_));
        let mut function = Dict::default();
        function.set("name", optional(given, "name", is_str)?.ok_or(INVALID)?);
        let description = optional(given, "description", is_str)?;
        function.set("description", description.unwrap_or(Json::Null));
        function.set("parameters", optional(given, "parameters", is_dict)?.unwrap_or(Json::Null));
        if let Some(strict) = optional(given, "strict", is_bool)? {
            function.set("strict", strict);
        }
        let outer = optional(tool, "defer_loading", is_bool)?;
        let inner = optional(given, "defer_loading", is_bool)?;
        if let Some(deferred) = inner.or_else(|| outer.clone()) {
            function.set("defer_loading", deferred);
        }
        let mut dumped = Dict::default();
        dumped.set("type", Json::Str("function".into()));
        dumped.set("function", Json::Dict(function));
        if let Some(deferred) = outer {
            dumped.set("defer_loading", deferred);
        }
        Ok(Json::Dict(dumped))
    };
    tools.iter().map(dump).collect::<Result<_, _>>().map(|tools| Some(Json::List(tools)))
}

fn message(message: Json) -> Result<Message, Refusal> {
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
        parts.extend(part(item)?);
    }
    if role == "system" {
        parts.retain_mut(without_billing_header);
    }
    let rest = rest(&role, message)?;
    Ok(Message { role, parts, rest })
}

fn part(part: Json) -> Result<Option<Part>, Refusal> {
    const INVALID: Refusal = Refusal::Invalid("content");
    let mut part = match part {
        Json::Str(text) => {
            return Ok(Some(Part::Text { text: text.into(), extra: Dict::default() }));
        }
        Json::Dict(part) => part,
        _ => return Err(INVALID),
    };
    let kind = match part.remove("type") {
        Some(Json::Str(kind)) => kind,
        None if part.given("prompt_embeds").is_some() => return Err(Refusal::PromptEmbeds),
        None if MEDIA_KEYS.iter().any(|key| part.given(key).is_some()) => {
            return Err(Refusal::Media);
        }
        _ => return Err(INVALID),
    };
    let key = match kind.as_str() {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        "thinking" => "thinking",
        "tool_reference" => "name",
        "prompt_embeds" => return Err(Refusal::PromptEmbeds),
        media if MEDIA_TYPES.contains(&media) => return Err(Refusal::Media),
        _ => return Err(INVALID),
    };
    if part.given("uuid").is_some() {
        // A part with both is looked up by its keys first, then misread.
        return Err(INVALID);
    }
    let text: Arc<str> = match part.remove(key) {
        Some(Json::Str(text)) => text.into(),
        _ => return Err(INVALID),
    };
    if kind == "tool_reference" {
        return Ok((!text.is_empty()).then_some(Part::ToolReference(text)));
    }
    let known = |key: &str| KNOWN_PART_KEYS.contains(&key);
    let extra = part.into_iter().filter(|(key, _)| !known(key)).collect();
    Ok(Some(Part::Text { text, extra }))
}

/// The engine drops this line from system text, since it differs on every request.
fn without_billing_header(part: &mut Part) -> bool {
    let Part::Text { text, .. } = part else { return true };
    if !text.starts_with(BILLING_HEADER) {
        return true;
    }
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    let rest = Arc::from(rest);
    *text = rest;
    !text.is_empty()
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
    for (key, value) in given {
        function.set(&key, value);
    }
    ordered.set("id", id);
    ordered.set("function", Json::Dict(function));
    ordered.set("type", kind);
    for (key, value) in call {
        ordered.set(&key, value);
    }
    Ok(Json::Dict(ordered))
}

/// What is no JSON object counts as an empty one.
fn decoded(arguments: &str) -> Result<Dict, Refusal> {
    match json::read(arguments) {
        Ok(Json::Dict(arguments)) => Ok(arguments),
        Ok(_) | Err(JsonError::Syntax) => Ok(Dict::default()),
        Err(error) => Err(error.into()),
    }
}
