//! `/v1/responses`, made a chat the way the engine makes it one.
//!
//! The engine keeps earlier responses in one process's memory, so what a
//! `previous_response_id` stands for can not be known here.

use super::chat::{Unset, assemble, carried, tools};
use super::message::{self, Message, decoded};
use super::{Asked, messages::Late};
use crate::Refusal;
use crate::json::{self, Dict, Json, Str};
use crate::trail::Trail;

const INVALID: Refusal = Refusal::Invalid("input");

pub(super) fn read(mut body: Dict) -> Result<Asked, Refusal> {
    if body.given("previous_response_id").is_some() {
        return Err(Refusal::PreviousResponse);
    }
    if body.given("previous_input_messages").is_some() {
        return Err(Refusal::Unsupported("previous_input_messages"));
    }
    if body.given("prompt").is_some() {
        return Err(Refusal::Invalid("prompt"));
    }
    match body.get("truncation") {
        None => {}
        Some(Json::Str(kind)) if kind == "disabled" => {}
        // It keeps what the engine's context length allows, which is not known here.
        Some(_) => return Err(Refusal::Unsupported("truncation")),
    }
    let mut messages = Vec::new();
    match body.remove("instructions") {
        None | Some(Json::Null) => {}
        Some(Json::Str(text)) if text.is_empty() => {}
        Some(text @ Json::Str(_)) => messages.push(Draft::new("system", Some(text))),
        Some(_) => return Err(Refusal::Invalid("instructions")),
    }
    let mut open = false;
    match body.remove("input") {
        Some(text @ Json::Str(_)) => messages.push(Draft::new("user", Some(text))),
        Some(Json::List(items)) => {
            open = items.last().is_some_and(is_open);
            let mut drafts = Vec::new();
            for item in items {
                add(item, &mut drafts)?;
            }
            messages.append(&mut drafts);
        }
        _ => return Err(INVALID),
    }
    let messages: Vec<Message> =
        messages.into_iter().map(Draft::finish).collect::<Result<_, _>>()?;
    let tools = match body.remove("tools") {
        None => None,
        Some(Json::List(given)) if given.is_empty() => None,
        Some(Json::List(given)) => {
            let mut known = Vec::new();
            for tool in given {
                functions(tool, &mut known)?;
            }
            Some(tools(&known)?)
        }
        Some(_) => return Err(Refusal::Invalid("tools")),
    };
    let mut chat = carried(&mut body);
    match body.remove("reasoning") {
        None | Some(Json::Null) => {}
        Some(Json::Dict(mut reasoning)) => {
            if let Some(effort) = reasoning.remove("effort") {
                chat.set("reasoning_effort", effort);
            }
        }
        Some(_) => return Err(Refusal::Invalid("reasoning")),
    }
    chat.set("add_generation_prompt", Json::Bool(!open));
    chat.set("continue_final_message", Json::Bool(open));
    assemble(chat, (messages, Trail::default()), tools, Unset::Kept, Late::default())
}

/// What the engine shows of a tool that takes any text: a function of one string.
const CUSTOM: &str = r#"{"type": "object", "properties": {"input": {"type": "string",
    "description": "The freeform text payload for this tool."}}, "required": ["input"],
    "additionalProperties": false}"#;

fn kind(item: &Dict) -> Option<&str> {
    item.get("type").and_then(Json::as_str)
}

/// Whether the final item is to be continued.
fn is_open(item: &Json) -> bool {
    let Some(item) = item.as_dict() else { return false };
    let status = item.get("status").and_then(Json::as_str);
    matches!(kind(item), None | Some("message" | "reasoning"))
        && matches!(status, Some("in_progress" | "incomplete"))
}

/// A message that later items may add to.
struct Draft {
    role: Str,
    content: Option<Json>,
    id: Option<Json>,
    reasoning: Option<Str>,
    calls: Vec<Json>,
}

impl Draft {
    fn new(role: &str, content: Option<Json>) -> Draft {
        Draft { role: role.into(), content, id: None, reasoning: None, calls: Vec::new() }
    }

    fn finish(self) -> Result<Message, Refusal> {
        let mut dict = Dict::default();
        dict.set("role", Json::Str(self.role));
        dict.set("content", self.content.unwrap_or(Json::Null));
        if let Some(id) = self.id {
            dict.set("tool_call_id", id);
        }
        let mut message = message::read(Json::Dict(dict))?;
        if message.role == "assistant" {
            message.says(self.calls, self.reasoning);
        }
        Ok(message)
    }
}

/// The last message, where it is the assistant's.
fn assistant(drafts: &mut [Draft]) -> Option<&mut Draft> {
    drafts.last_mut().filter(|draft| draft.role == "assistant")
}

fn add(item: Json, drafts: &mut Vec<Draft>) -> Result<(), Refusal> {
    let Json::Dict(mut item) = item else { return Err(INVALID) };
    match kind(&item).map(str::to_owned).as_deref() {
        Some("function_call") => {
            let text = |given| match given {
                Some(Json::Str(text)) => Ok(text),
                _ => Err(INVALID),
            };
            let mut name = text(item.remove("name"))?;
            if let Some(Json::Str(space)) = item.remove("namespace")
                && !space.is_empty()
            {
                name = flat(&space, &name).into();
            }
            let id = text(item.remove("call_id"))?;
            let arguments = decoded(&text(item.remove("arguments"))?)?;
            call(id, name, arguments, drafts);
        }
        Some("custom_tool_call") => {
            let field = |item: &mut Dict, name| match item.remove(name) {
                Some(Json::Str(text)) => Ok(text),
                _ => Err(INVALID),
            };
            let (id, name) = (field(&mut item, "call_id")?, field(&mut item, "name")?);
            let input = Json::Str(field(&mut item, "input")?);
            call(id, name, [("input".into(), input)].into_iter().collect(), drafts);
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            let output = item.remove("output");
            let mut draft = Draft::new("tool", output.map(texts_only).transpose()?);
            draft.id = item.remove("call_id");
            drafts.push(draft);
        }
        Some("reasoning") => {
            let reasoning = reasoning(&item)?;
            match assistant(drafts).filter(|draft| draft.reasoning.is_none()) {
                Some(draft) => draft.reasoning = Some(reasoning),
                None => {
                    let mut draft = Draft::new("assistant", None);
                    draft.reasoning = Some(reasoning);
                    drafts.push(draft);
                }
            }
        }
        None | Some("message") => message(item, drafts)?,
        // The engine refuses some of these and drops none.
        Some(_) => return Err(Refusal::Unsupported("an item of the input")),
    }
    Ok(())
}

fn call(id: Str, name: Str, arguments: Dict, drafts: &mut Vec<Draft>) {
    let dict = |entries: Vec<(&str, Json)>| -> Json {
        Json::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    let function = dict(vec![("name", Json::Str(name)), ("arguments", Json::Dict(arguments))]);
    let call = dict(vec![
        ("id", Json::Str(id)),
        ("function", function),
        ("type", Json::Str("function".into())),
    ]);
    match assistant(drafts) {
        Some(draft) => draft.calls.push(call),
        None => {
            let mut draft = Draft::new("assistant", None);
            draft.calls.push(call);
            drafts.push(draft);
        }
    }
}

fn reasoning(item: &Dict) -> Result<Str, Refusal> {
    let first = |field| match item.get(field) {
        Some(Json::List(items)) => match items.first() {
            None => Ok(None),
            Some(first) => match first.as_dict().and_then(|first| first.get("text")) {
                Some(Json::Str(text)) => Ok(Some(text.clone())),
                _ => Err(INVALID),
            },
        },
        None | Some(Json::Null) => Ok(None),
        Some(_) => Err(INVALID),
    };
    match item.given("encrypted_content") {
        None => {}
        Some(Json::Str(text)) if text.is_empty() => {}
        Some(_) => return Err(Refusal::Invalid("encrypted_content")),
    }
    if !matches!(item.get("summary"), Some(Json::List(_))) {
        return Err(INVALID);
    }
    Ok(first("content")?.or(first("summary")?).unwrap_or_default())
}

/// A message of any role, its parts as the engine's schema leaves them.
fn message(mut item: Dict, drafts: &mut Vec<Draft>) -> Result<(), Refusal> {
    let typed = kind(&item).is_some();
    let (Some(Json::Str(role)), Some(content)) = (item.remove("role"), item.remove("content"))
    else {
        return Err(INVALID);
    };
    let said = match (role.as_str(), &content) {
        ("user" | "system" | "developer", _) => None,
        ("assistant", Json::Str(text)) => Some(text.clone()),
        ("assistant", Json::List(parts)) => match parts.first() {
            None if typed => return Err(INVALID),
            None => None,
            Some(first) => match (first.as_dict().and_then(kind), typed) {
                (Some("output_text"), true) | (Some("input_text"), _) => {
                    let text = first.as_dict().and_then(|part| part.get("text"));
                    Some(text.and_then(Json::as_str).ok_or(INVALID)?.into())
                }
                (Some("output_text" | "refusal"), _) => return Err(INVALID),
                _ => None,
            },
        },
        _ => return Err(INVALID),
    };
    let Some(said) = said else {
        drafts.push(Draft::new(&role, Some(texts_only(content)?)));
        return Ok(());
    };
    match assistant(drafts).filter(|draft| draft.content.is_none()) {
        Some(draft) => draft.content = Some(Json::Str(said)),
        None => drafts.push(Draft::new(&role, Some(Json::Str(said)))),
    }
    Ok(())
}

/// Content whose text parts have no key but those that the schema knows.
fn texts_only(content: Json) -> Result<Json, Refusal> {
    let Json::List(parts) = content else { return Ok(content) };
    let part = |part| {
        let Json::Dict(mut part) = part else { return Err(INVALID) };
        match kind(&part) {
            Some("input_text") => {
                let text = part.remove("text").ok_or(INVALID)?;
                let kind = ("type".into(), Json::Str("input_text".into()));
                Ok(Json::Dict([kind, ("text".into(), text)].into_iter().collect()))
            }
            Some("input_image") => Ok(Json::Dict(part)),
            Some("input_file" | "input_audio") => Err(Refusal::Media),
            _ => Err(INVALID),
        }
    };
    parts.into_iter().map(part).collect::<Result<_, _>>().map(Json::List)
}

fn flat(space: &str, name: &str) -> String {
    format!("{space}__{name}")
}

/// The functions that the model is shown of one tool, as chat completions describe them.
fn functions(tool: Json, known: &mut Vec<Json>) -> Result<(), Refusal> {
    const INVALID: Refusal = Refusal::Invalid("tools");
    let Json::Dict(mut tool) = tool else { return Err(INVALID) };
    match kind(&tool) {
        Some("function") => {
            known.push(function(tool));
            Ok(())
        }
        Some("namespace") => {
            let (Some(Json::Str(space)), Some(Json::List(inner))) =
                (tool.remove("name"), tool.remove("tools"))
            else {
                return Err(INVALID);
            };
            for tool in inner {
                let Json::Dict(mut tool) = tool else { return Err(INVALID) };
                if kind(&tool) == Some("function") {
                    let name = tool.get("name").and_then(Json::as_str).ok_or(INVALID)?;
                    let name = flat(&space, name);
                    tool.set("name", Json::Str(name.into()));
                    known.push(function(tool));
                }
            }
            Ok(())
        }
        Some("custom") => {
            let grammar = tool.get("format").and_then(Json::as_dict).and_then(kind);
            if grammar == Some("grammar") {
                return Err(INVALID);
            }
            tool.set("parameters", json::read(CUSTOM).map_err(|_| INVALID)?);
            known.push(function(tool));
            Ok(())
        }
        // Tools that the engine runs itself, or nobody; the template does not see them.
        Some(_) => Ok(()),
        None => Err(INVALID),
    }
}

fn function(mut tool: Dict) -> Json {
    tool.remove("type");
    let kind = ("type".into(), Json::Str("function".into()));
    Json::Dict([kind, ("function".into(), Json::Dict(tool))].into_iter().collect())
}
