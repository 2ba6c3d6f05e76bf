//! Anthropic's `/v1/messages`, made a chat the way the engine makes it one.
//!
//! Two things are settled by the model's template and hence later: whether system
//! messages among the others stay there, and how thinking is turned off.

use super::Asked;
use super::chat::{Unset, assemble, carried, tools};
use super::message::{self, Message};
use crate::Refusal;
use crate::json::{Dict, Json, Str};
use crate::trail::Trail;

/// What of a conversation is settled by the template.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late {
    /// The messages for a template that wants its one system message first; absent
    /// where that makes no difference.
    pub merged: Option<Vec<Message>>,
    /// Whether the client turned thinking off.
    pub thinking_disabled: bool,
}

const INVALID: Refusal = Refusal::Invalid("messages");
const BILLING_HEADER: &str = "x-anthropic-billing-header";
/// Blocks of the engine's schema that leave no trace in the prompt.
const IGNORED: [&str; 2] = ["redacted_thinking", "tool_reference"];

/// One message as the client wrote it.
struct Given {
    role: Str,
    content: Content,
}

enum Content {
    Text(Str),
    Blocks(Vec<Dict>),
}

pub(super) fn read(mut body: Dict) -> Result<Asked, Refusal> {
    let Some(Json::List(messages)) = body.remove("messages") else { return Err(INVALID) };
    let given: Vec<Given> = messages.into_iter().map(given).collect::<Result<_, _>>()?;
    let top = match body.remove("system") {
        None | Some(Json::Null) => Vec::new(),
        Some(system) => system_texts(&content(system)?, false)?,
    };
    let messages = converted(&given, &top, false)?;
    let mut late = Late::default();
    if given.iter().any(|message| message.role == "system") {
        late.merged = Some(converted(&given, &top, true)?);
    }
    let tools = match body.remove("tools") {
        None | Some(Json::Null) => None,
        Some(Json::List(given)) => {
            let given: Vec<Json> = given.into_iter().map(tool).collect::<Result<_, _>>()?;
            Some(tools(&given)?)
        }
        Some(_) => return Err(Refusal::Invalid("tools")),
    };
    let mut chat = carried(&mut body);
    let kind = |value: &Dict| value.get("type").and_then(Json::as_str).map(str::to_owned);
    match body.given("thinking").map(|thinking| thinking.as_dict().and_then(kind)) {
        None => {}
        Some(Some(kind)) if kind == "disabled" => late.thinking_disabled = true,
        Some(Some(kind)) if kind == "enabled" || kind == "adaptive" => {}
        Some(_) => return Err(Refusal::Invalid("thinking")),
    }
    if !late.thinking_disabled
        && let Some(Json::Dict(config)) = body.remove("output_config").as_mut()
        && let Some(effort) = config.remove("effort")
    {
        chat.set("reasoning_effort", effort);
    }
    assemble(chat, (messages, Trail::default()), tools, Unset::Dropped, late)
}

fn given(message: Json) -> Result<Given, Refusal> {
    let Json::Dict(mut message) = message else { return Err(INVALID) };
    match (message.remove("role"), message.remove("content")) {
        (Some(Json::Str(role)), Some(given))
            if matches!(role.as_str(), "user" | "assistant" | "system") =>
        {
            Ok(Given { role, content: content(given)? })
        }
        _ => Err(INVALID),
    }
}

fn content(given: Json) -> Result<Content, Refusal> {
    match given {
        Json::Str(text) => Ok(Content::Text(text)),
        Json::List(blocks) => blocks
            .into_iter()
            .map(|block| match block {
                Json::Dict(block) => Ok(block),
                _ => Err(INVALID),
            })
            .collect::<Result<_, _>>()
            .map(Content::Blocks),
        _ => Err(INVALID),
    }
}

fn kind(block: &Dict) -> &str {
    block.get("type").and_then(Json::as_str).unwrap_or("")
}

/// The text of a field that may be absent, but is nothing else.
fn text<'a>(block: &'a Dict, field: &str) -> Result<Option<&'a str>, Refusal> {
    match block.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Str(text)) => Ok(Some(text)),
        Some(_) => Err(INVALID),
    }
}

/// The texts of a system prompt, without the client's attribution. A string at the
/// top keeps it here, to lose its line when the message is read.
fn system_texts(content: &Content, inline: bool) -> Result<Vec<String>, Refusal> {
    let mut texts = Vec::new();
    match content {
        Content::Text(text) if text.is_empty() => {}
        Content::Text(text) if inline && text.starts_with(BILLING_HEADER) => {}
        Content::Text(text) => texts.push(text.to_string()),
        Content::Blocks(blocks) => {
            for block in blocks {
                if matches!(kind(block), "tool_addition" | "tool_removal") {
                    return Err(Refusal::Unsupported("tool_addition and tool_removal"));
                }
                if kind(block) == "text"
                    && let Some(text) = text(block, "text")?
                    && !text.is_empty()
                    && !text.starts_with(BILLING_HEADER)
                {
                    texts.push(text.to_owned());
                }
            }
        }
    }
    Ok(texts)
}

/// The chat's messages; `merge` puts all system messages into the one at the front.
fn converted(given: &[Given], top: &[String], merge: bool) -> Result<Vec<Message>, Refusal> {
    let mut first = top.to_vec();
    let mut messages = Vec::new();
    for message in given {
        if message.role != "system" {
            convert(message, &mut messages)?;
            continue;
        }
        let text = system_texts(&message.content, true)?.concat();
        if text.is_empty() {
            continue;
        }
        match merge {
            true => first.push(text),
            false => messages.push(simple("system", Json::Str(text.into()))?),
        }
    }
    if !first.is_empty() {
        messages.insert(0, simple("system", Json::Str(first.concat().into()))?);
    }
    Ok(messages)
}

fn simple(role: &str, content: Json) -> Result<Message, Refusal> {
    message::read(dict([("role", Json::Str(role.into())), ("content", content)]))
}

fn dict<const N: usize>(entries: [(&str, Json); N]) -> Json {
    Json::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn part(text: &str) -> Json {
    dict([("type", Json::Str("text".into())), ("text", Json::Str(text.into()))])
}

fn image(source: &Dict) -> Json {
    let url = match source.get("type").and_then(Json::as_str) {
        Some("url") => source.get("url").and_then(Json::as_str).unwrap_or("").to_owned(),
        _ => String::new(),
    };
    let url = dict([("url", Json::Str(url.into()))]);
    dict([("type", Json::Str("image_url".into())), ("image_url", url)])
}

/// A message of user or assistant; results of tools come before it, as messages of
/// their own.
fn convert(given: &Given, messages: &mut Vec<Message>) -> Result<(), Refusal> {
    let blocks = match &given.content {
        Content::Text(text) => {
            messages.push(simple(&given.role, Json::Str(text.clone()))?);
            return Ok(());
        }
        Content::Blocks(blocks) => blocks,
    };
    let (mut parts, mut calls, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        match kind(block) {
            "text" => {
                let text = text(block, "text")?.filter(|text| !text.is_empty());
                parts.extend(text.map(part));
            }
            "image" => {
                let source = block.get("source").and_then(Json::as_dict);
                parts.extend(source.filter(|source| source.iter().next().is_some()).map(image));
            }
            "thinking" => thoughts.extend(text(block, "thinking")?),
            "tool_use" => calls.push(call(block)?),
            "tool_result" if given.role == "user" => result(block, messages)?,
            "tool_result" => {
                let content = match block.given("content") {
                    None => "",
                    Some(Json::Str(content)) => content,
                    Some(_) => return Err(Refusal::Unsupported("the assistant's tool_result")),
                };
                parts.push(part(&format!("Tool result: {content}")));
            }
            kind if IGNORED.contains(&kind) => {}
            _ => return Err(INVALID),
        }
    }
    if given.role == "user" && parts.is_empty() {
        return Ok(());
    }
    let mut message = simple(&given.role, Json::List(parts))?;
    if given.role == "assistant" {
        let thoughts = (!thoughts.is_empty()).then(|| thoughts.concat().into());
        message.says(calls, thoughts);
    }
    messages.push(message);
    Ok(())
}

fn call(block: &Dict) -> Result<Json, Refusal> {
    let id = text(block, "id")?.filter(|id| !id.is_empty());
    // The engine makes one of the time.
    let id = id.ok_or(Refusal::Unsupported("tool_use without id"))?;
    let name = text(block, "name")?.unwrap_or("");
    let input = match block.get("input") {
        None | Some(Json::Null) => Dict::default(),
        Some(Json::Dict(input)) => input.clone(),
        Some(_) => return Err(INVALID),
    };
    let function = dict([("arguments", Json::Dict(input)), ("name", Json::Str(name.into()))]);
    Ok(dict([
        ("id", Json::Str(id.into())),
        ("function", function),
        ("type", Json::Str("function".into())),
    ]))
}

fn result(block: &Dict, messages: &mut Vec<Message>) -> Result<(), Refusal> {
    let id = text(block, "tool_use_id")?.unwrap_or("");
    let (mut texts, mut images, mut references) = (Vec::new(), Vec::new(), Vec::new());
    match block.get("content") {
        None | Some(Json::Null) => {}
        Some(Json::Str(text)) => texts.push(text.as_str()),
        Some(Json::List(items)) => {
            for item in items {
                let item = item.as_dict().ok_or(INVALID)?;
                match kind(item) {
                    "text" => texts.push(text(item, "text")?.unwrap_or("")),
                    "image" => match item.get("source") {
                        Some(Json::Dict(source)) => images.push(image(source)),
                        _ => return Err(INVALID),
                    },
                    "tool_reference" => {
                        let name = |field| {
                            item.get(field).and_then(Json::as_str).filter(|name| !name.is_empty())
                        };
                        if let Some(name) = name("tool_name").or(name("name")) {
                            let kind = Json::Str("tool_reference".into());
                            references
                                .push(dict([("type", kind), ("name", Json::Str(name.into()))]));
                        }
                    }
                    _ => {}
                }
            }
        }
        Some(_) => return Err(INVALID),
    }
    let tool = |content| {
        message::read(dict([
            ("role", Json::Str("tool".into())),
            ("tool_call_id", Json::Str(id.into())),
            ("content", content),
        ]))
    };
    messages.push(tool(Json::Str(texts.join("\n").into()))?);
    if !images.is_empty() {
        messages.push(simple("user", Json::List(images))?);
    }
    if !references.is_empty() {
        messages.push(tool(Json::List(references))?);
    }
    Ok(())
}

/// A tool as chat completions describe one.
fn tool(given: Json) -> Result<Json, Refusal> {
    const INVALID: Refusal = Refusal::Invalid("tools");
    let Json::Dict(mut given) = given else { return Err(INVALID) };
    let Some(Json::Dict(mut schema)) = given.remove("input_schema") else { return Err(INVALID) };
    if schema.get("type").is_none() {
        schema.set("type", Json::Str("object".into()));
    }
    let mut function = Dict::default();
    for field in ["name", "description", "strict", "defer_loading"] {
        if let Some(value) = given.remove(field) {
            function.set(field, value);
        }
    }
    function.set("parameters", Json::Dict(schema));
    Ok(dict([("type", Json::Str("function".into())), ("function", Json::Dict(function))]))
}
