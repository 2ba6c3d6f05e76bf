//! `/v1/chat/completions`: messages, tools and what else a template sees.

use super::message::{self, Message};
use super::{Asked, flag, ids, messages::Late};
use crate::json::{Dict, Json, Reader};
use crate::trail::Trail;
use crate::{ModelSpec, Refusal};
use std::borrow::Cow;

/// A conversation, and what is passed to the template with it.
#[derive(Clone, Debug)]
pub(crate) struct Chat {
    /// Those that were read.
    messages: Vec<Message>,
    /// All of them by name, with those that are known and were not read.
    pub trail: Trail,
    /// As the engine dumps them: fixed keys in fixed order.
    pub tools: Option<Json>,
    pub documents: Option<Json>,
    /// Further variables of the template.
    pub variables: Dict,
    pub add_generation_prompt: bool,
    pub continue_final_message: bool,
    /// Whether there are images, audio or videos.
    pub media: bool,
    /// What only the model's template settles.
    pub late: Late,
}

impl Chat {
    /// The messages for a template of the kind that `spec` describes, all of them read.
    pub(crate) fn messages(&self, spec: &ModelSpec) -> Result<Cow<'_, [Message]>, Refusal> {
        match (&self.late.merged, spec.system_first) {
            (None, _) | (_, Some(false)) if self.trail.known_count() == 0 => {
                Ok(Cow::Borrowed(&self.messages))
            }
            (None, _) | (_, Some(false)) => self
                .each()
                .map(|message| match message {
                    Each::Read(message) => Ok(message.clone()),
                    Each::Known(bytes) => known(bytes),
                })
                .collect(),
            (Some(merged), Some(true)) => Ok(Cow::Borrowed(merged)),
            (Some(_), None) => Err(Refusal::Unsupported("system messages among the others")),
        }
    }

    /// The messages in order, as they are.
    pub(crate) fn each(&self) -> impl Iterator<Item = Each<'_>> {
        let mut read = self.messages.iter();
        let count = self.count();
        (0..count).filter_map(move |at| match self.trail.known(at) {
            Some(bytes) => Some(Each::Known(bytes)),
            None => read.next().map(Each::Read),
        })
    }

    /// How many messages there are.
    pub(crate) fn count(&self) -> usize {
        self.messages.len() + self.trail.known_count()
    }

    /// Appends what the template sees besides the messages.
    pub(crate) fn write_context(&self, out: &mut Vec<u8>) {
        out.extend([u8::from(self.add_generation_prompt), u8::from(self.late.thinking_disabled)]);
        for given in [&self.tools, &self.documents] {
            given.as_ref().unwrap_or(&Json::Null).write(out);
        }
        for (name, value) in self.variables.entries() {
            Json::Str(name.clone()).write(out);
            value.write(out);
        }
    }

    /// Variables that `spec` adds to the client's own.
    pub(crate) fn efforts(&self, spec: &ModelSpec) -> Result<Dict, Refusal> {
        let mut added = Dict::default();
        if self.late.thinking_disabled {
            let effort = spec.disabled_effort.as_deref();
            let effort = effort.ok_or(Refusal::Unsupported("thinking: disabled"))?;
            set_effort(&mut added, &self.variables, effort);
        }
        Ok(added)
    }
}

/// A message of a [`Chat`].
pub(crate) enum Each<'a> {
    Read(&'a Message),
    /// Its bytes, which [`known`] reads.
    Known(&'a [u8]),
}

/// Reads a message that was known.
pub(crate) fn known(bytes: &[u8]) -> Result<Message, Refusal> {
    let mut reader = Reader::default();
    reader.feed(bytes)?;
    message::read(reader.finish()?)
}

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
/// Templates index into what they sliced, which takes time with the square of this.
const MAX_MESSAGES: usize = 8192;
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

pub(super) fn read(mut body: Dict, trail: Trail) -> Result<Asked, Refusal> {
    let Some(Json::List(messages)) = body.remove("messages") else {
        return Err(Refusal::Invalid("messages"));
    };
    if body.given("chat_template").is_some() {
        return Err(Refusal::RequestTemplate);
    }
    let messages: Vec<Message> =
        messages.into_iter().map(message::read).collect::<Result<_, _>>()?;
    let tools = match body.given("tools") {
        None => None,
        Some(Json::List(given)) if !given.is_empty() => Some(tools(given)?),
        Some(_) => return Err(Refusal::Invalid("tools")),
    };
    assemble(body, (messages, trail), tools, Unset::Dropped, Late::default())
}

/// What becomes of template variables that are `None` or "auto".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unset {
    /// They count as not given.
    Dropped,
    /// The template sees them.
    Kept,
}

/// A chat body with what other endpoints' bodies say in the same fields.
pub(super) fn carried(body: &mut Dict) -> Dict {
    let mut chat = Dict::default();
    for field in ["chat_template_kwargs", "kv_transfer_params"] {
        if let Some(value) = body.remove(field) {
            chat.set(field, value);
        }
    }
    chat
}

/// A chat of what was read of its messages and tools, and of the other fields of `body`.
pub(super) fn assemble(
    mut body: Dict,
    (messages, trail): (Vec<Message>, Trail),
    tools: Option<Json>,
    unset: Unset,
    late: Late,
) -> Result<Asked, Refusal> {
    if let Some(Json::Dict(kwargs)) = body.get("chat_template_kwargs")
        && kwargs.given("chat_template").is_some()
    {
        return Err(Refusal::RequestTemplate);
    }
    let media = messages.iter().any(Message::has_media);
    if !media && let Some(ids) = transferred(&body)? {
        return Ok(Asked::Ids(ids));
    }
    let count = messages.len() + trail.known_count();
    if count == 0 {
        return Err(Refusal::Invalid("messages"));
    }
    if count > MAX_MESSAGES {
        return Err(Refusal::TemplateLimit);
    }
    let add_generation_prompt = flag(&body, "add_generation_prompt", true)?;
    let continue_final_message = flag(&body, "continue_final_message", false)?;
    if add_generation_prompt && continue_final_message {
        return Err(Refusal::Invalid("continue_final_message with add_generation_prompt"));
    }
    let mut variables = variables(&mut body, unset)?;
    let documents = match body.remove("documents") {
        None | Some(Json::Null) => variables.remove("documents").filter(|given| !given.is_null()),
        given => given,
    };
    Ok(Asked::Chat(Box::new(Chat {
        messages,
        trail,
        tools,
        documents: documents.map(checked_documents).transpose()?,
        variables,
        add_generation_prompt,
        continue_final_message,
        media,
        late,
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
fn variables(body: &mut Dict, unset: Unset) -> Result<Dict, Refusal> {
    let mut variables = match body.remove("chat_template_kwargs") {
        None | Some(Json::Null) => Dict::default(),
        Some(Json::Dict(kwargs)) => kwargs,
        Some(_) => return Err(Refusal::Invalid("chat_template_kwargs")),
    };
    match body.remove("reasoning_effort") {
        None | Some(Json::Null) => {}
        Some(Json::Str(effort)) if EFFORTS.contains(&effort.as_str()) => {
            let mut added = Dict::default();
            set_effort(&mut added, &variables, &effort);
            for (name, value) in added {
                variables.set(&name, value);
            }
        }
        Some(_) => return Err(Refusal::Invalid("reasoning_effort")),
    }
    let mut kept = Vec::new();
    for (name, value) in variables {
        // Merged over the engine's defaults, what equals None or "auto" counts as not
        // given; as those defaults themselves, it counts.
        if unset == Unset::Dropped && (value.is_null() || value.as_str() == Some("auto")) {
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
            kept.push((name, value));
        }
    }
    Ok(kept.into_iter().collect())
}

/// `reasoning_effort` as the template sees it; `given` are the client's variables.
fn set_effort(variables: &mut Dict, given: &Dict, effort: &str) {
    if given.get("enable_thinking").is_none() {
        variables.set("enable_thinking", Json::Bool(effort != "none"));
    }
    variables.set("reasoning_effort", Json::Str(effort.into()));
}

fn checked_documents(documents: Json) -> Result<Json, Refusal> {
    match &documents {
        Json::List(items) if items.iter().all(|item| item.as_dict().is_some()) => Ok(documents),
        _ => Err(Refusal::Invalid("documents")),
    }
}

/// Tools as the engine's models dump them: unknown keys gone, `description` and
/// `parameters` always there, `strict` and `defer_loading` only where given.
pub(super) fn tools(given: &[Json]) -> Result<Json, Refusal> {
    const INVALID: Refusal = Refusal::Invalid("tools");
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
    given.iter().map(dump).collect::<Result<_, _>>().map(Json::List)
}
