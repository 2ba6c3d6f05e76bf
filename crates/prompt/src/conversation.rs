//! From messages to what the template sees.
//!
//! The steps are the engine's, in its order: content in the template's form,
//! developer messages as system messages where the template does not know them,
//! and the tag that marks where an open final message ends.

use crate::Refusal;
use crate::body::{Message, Part};
use crate::json::Dict;
use crate::spec::ContentFormat;
use crate::template::Watch;
use crate::template::python::is_space;
use crate::template::value::{self, Entries};
use minijinja::Value;
use std::sync::Arc;

/// What transformers appends to the final message to find it again.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// One message in the template's form.
struct Turn<'a> {
    role: &'a str,
    content: Content<'a>,
    rest: &'a Dict,
}

enum Content<'a> {
    Text(Arc<str>),
    Parts(Vec<Item<'a>>),
}

enum Item<'a> {
    Text { text: Arc<str>, extra: &'a Dict },
    Media { kind: &'static str, extra: &'a Dict },
    ToolReference(&'a Arc<str>),
}

static NOTHING: Dict = Dict::new();

/// A conversation ready to be rendered.
pub(crate) struct Conversation<'a> {
    turns: Vec<Turn<'a>>,
    /// The text of the final message, where it is to be continued.
    open: Option<Arc<str>>,
}

impl<'a> Conversation<'a> {
    /// Normalises `messages` for a template that takes content as `format` says.
    pub(crate) fn new(
        messages: &'a [Message],
        format: ContentFormat,
        template: &str,
        open: bool,
    ) -> Result<Conversation<'a>, Refusal> {
        let mut turns: Vec<Turn<'a>> =
            messages.iter().map(|message| turn(message, format)).collect::<Result<_, _>>()?;
        let knows_developers =
            template.contains("\"developer\"") || template.contains("'developer'");
        if !knows_developers && turns.iter().any(|turn| turn.role == "developer") {
            turns = with_one_system_message(turns);
        }
        let mut conversation = Conversation { turns, open: None };
        if open {
            conversation.leave_open(template)?;
        }
        Ok(conversation)
    }

    /// The template's `messages`.
    pub(crate) fn messages(&self, watch: &Arc<Watch>) -> Value {
        let turns = self.turns.iter().enumerate();
        let turns = turns.map(|(at, turn)| value::message(watch, at, turn.entries()));
        value::messages(watch, turns.collect())
    }

    fn leave_open(&mut self, template: &str) -> Result<(), Refusal> {
        const INVALID: Refusal = Refusal::Invalid("continue_final_message");
        if !template.contains("content") {
            return Err(INVALID);
        }
        let turn = self.turns.last_mut().ok_or(INVALID)?;
        let text = match &mut turn.content {
            Content::Text(text) => text,
            Content::Parts(items) => items
                .iter_mut()
                .rev()
                .find_map(|item| match item {
                    Item::Text { text, .. } => Some(text),
                    Item::Media { .. } | Item::ToolReference(_) => None,
                })
                .ok_or(INVALID)?,
        };
        let tagged = format!("{text}{TAG}").into();
        self.open = Some(std::mem::replace(text, tagged));
        Ok(())
    }

    /// Cuts what the template wrote after an open final message.
    pub(crate) fn cut(&self, mut rendered: String) -> Result<String, Refusal> {
        const INVALID: Refusal = Refusal::Invalid("continue_final_message");
        let Some(open) = &self.open else { return Ok(rendered) };
        let at = rendered.rfind(TAG.trim_end()).ok_or(INVALID)?;
        if !rendered.contains(open.trim_matches(is_space)) {
            return Err(INVALID);
        }
        let kept_space = rendered.get(at..).is_some_and(|end| end.starts_with(TAG));
        rendered.truncate(at);
        if !kept_space {
            rendered.truncate(rendered.trim_end_matches(is_space).len());
        }
        Ok(rendered)
    }
}

/// What the template sees of a message that needs nothing of the others.
pub(crate) fn entries(message: &Message, format: ContentFormat) -> Result<Entries, Refusal> {
    Ok(turn(message, format)?.entries())
}

fn turn(message: &Message, format: ContentFormat) -> Result<Turn<'_>, Refusal> {
    let content = match format {
        ContentFormat::String => {
            let texts = message.parts.iter().map(|part| match part {
                Part::Text { text, .. } | Part::ToolReference(text) => Ok(text),
                // Where the engine puts its mark, only its own code knows.
                Part::Media { .. } => Err(Refusal::Media),
            });
            let texts: Vec<&Arc<str>> = texts.collect::<Result<_, _>>()?;
            Content::Text(joined(texts.into_iter().filter(|text| !text.is_empty())))
        }
        ContentFormat::Openai => parts(message),
    };
    Ok(Turn { role: &message.role, content, rest: &message.rest })
}

fn parts(message: &Message) -> Content<'_> {
    let texts = message.parts.iter().map(|part| match part {
        Part::Text { text, .. } => Some(text),
        Part::Media { .. } | Part::ToolReference(_) => None,
    });
    // Clients send tool results as parts, most templates know them as text only.
    if message.role == "tool"
        && let Some(texts) = texts.collect::<Option<Vec<_>>>()
    {
        return Content::Text(joined(texts.into_iter()));
    }
    let items = message.parts.iter().map(|part| match part {
        Part::Text { text, extra } => Item::Text { text: text.clone(), extra },
        Part::Media { kind, extra } => Item::Media { kind, extra },
        Part::ToolReference(name) => Item::ToolReference(name),
    });
    Content::Parts(items.collect())
}

fn joined<'a>(mut texts: impl Iterator<Item = &'a Arc<str>>) -> Arc<str> {
    let Some(first) = texts.next() else { return Arc::from("") };
    let Some(second) = texts.next() else { return first.clone() };
    let mut joined = format!("{first}\n{second}");
    for text in texts {
        joined.push('\n');
        joined.push_str(text);
    }
    joined.into()
}

/// Developer messages become system messages, and all of those one, at the front.
fn with_one_system_message(mut turns: Vec<Turn<'_>>) -> Vec<Turn<'_>> {
    for turn in turns.iter_mut().filter(|turn| turn.role == "developer") {
        turn.role = "system";
    }
    let is_system = |turn: &Turn<'_>| turn.role == "system";
    // A single one at the front stays as it is, with its name and parts.
    if !turns.iter().skip(1).any(is_system) {
        return turns;
    }
    let mut merged = String::new();
    for turn in turns.iter().filter(|turn| is_system(turn)) {
        let text = match &turn.content {
            Content::Text(text) => text.clone(),
            Content::Parts(items) => joined(items.iter().filter_map(|item| match item {
                Item::Text { text, .. } => Some(text),
                Item::Media { .. } | Item::ToolReference(_) => None,
            })),
        };
        if !text.is_empty() {
            merged.push_str(if merged.is_empty() { "" } else { "\n\n" });
            merged.push_str(&text);
        }
    }
    let merged = Turn { role: "system", content: Content::Text(merged.into()), rest: &NOTHING };
    let others = turns.into_iter().filter(|turn| turn.role != "system");
    std::iter::once(merged).chain(others).collect()
}

impl Turn<'_> {
    fn entries(&self) -> Entries {
        let content = match &self.content {
            Content::Text(text) => Value::from(text.clone()),
            Content::Parts(items) => value::list(items.iter().map(Item::value).collect()),
        };
        let mut entries =
            vec![(Arc::from("role"), Value::from(self.role)), (Arc::from("content"), content)];
        entries.extend(value::from_dict(self.rest).filter(|(key, value)| {
            // Set for developers only; a converted one has it no more.
            !(self.role == "system" && &**key == "tools" && value.is_none())
        }));
        entries
    }
}

impl Item<'_> {
    fn value(&self) -> Value {
        let mut entries = Vec::new();
        let mut set = |key: &str, value: Value| entries.push((Arc::from(key), value));
        match self {
            Item::Text { text, .. } => {
                set("type", Value::from("text"));
                set("text", Value::from(text.clone()));
            }
            Item::Media { kind, .. } => set("type", Value::from(*kind)),
            Item::ToolReference(name) => {
                set("type", Value::from("tool_reference"));
                set("name", Value::from(Arc::clone(name)));
            }
        }
        if let Item::Text { extra, .. } | Item::Media { extra, .. } = self {
            entries.extend(value::from_dict(extra));
        }
        value::dict(entries)
    }
}
