//! Bodies of chat requests.

use serde_json::{Value, json};

use super::texts::Random;

/// Chat templates of the shapes that models have, by a token that only theirs write.
const TEMPLATES: [(&str, &str); 4] = [
    ("<|start_header_id|>", "llama3"),
    ("<|im_start|>", "qwen2.5"),
    ("<start_of_turn>", "gemma3"),
    ("[AVAILABLE_TOOLS]", "mistral-v3"),
];

/// Where in the repository a template for a model lies whose folder has none.
pub(crate) fn template(tokenizer: &str) -> String {
    let known = TEMPLATES.iter().find(|(token, _)| tokenizer.contains(token));
    match known {
        Some((_, name)) => format!("crates/prompt/tests/prompts/templates/families/{name}.jinja"),
        None => "tests/models/tiny/chat_template.jinja".to_owned(),
    }
}

/// Bodies; none has text of another, but second turns of their first ones.
pub(crate) struct Bodies {
    /// A chat of 16 KB to warm up with, and chats of 64 KB.
    pub(crate) chats: [Chat; 4],
    /// 450 KB, some 128k tokens of a large vocabulary.
    pub(crate) long: String,
}

/// Two turns of a chat.
pub(crate) struct Chat {
    /// What there is most of in it.
    pub(crate) kind: &'static str,
    pub(crate) first: String,
    /// The same with its answer and another question: 1 KB more.
    pub(crate) second: String,
}

/// Makes bodies of `text`.
pub(crate) fn bodies(text: &str) -> Bodies {
    let mut source = Source { text, random: Random::new(13) };
    let chats = [
        ("warm-up", source.messages(16 << 10), Some(source.tools(4 << 10))),
        ("", source.messages(64 << 10), None),
        ("short", source.short_messages(64 << 10), None),
        ("tools", source.messages(32 << 10), Some(source.tools(32 << 10))),
    ];
    let chats = chats.map(|(kind, mut turns, tools)| {
        let first = body(&turns, tools.as_ref());
        turns.push(json!({"role": "assistant", "content": source.piece(700)}));
        turns.push(json!({"role": "user", "content": source.piece(300)}));
        Chat { kind, first, second: body(&turns, tools.as_ref()) }
    });
    let long = source.messages(450 << 10);
    Bodies { chats, long: body(&long, None) }
}

fn body(messages: &[Value], tools: Option<&Value>) -> String {
    let mut body = json!({"model": "bench", "stream": true, "messages": messages});
    if let Some(tools) = tools {
        body["tools"] = tools.clone();
    }
    body.to_string()
}

/// Text that no two messages share.
struct Source<'a> {
    text: &'a str,
    random: Random,
}

impl<'a> Source<'a> {
    fn piece(&mut self, bytes: usize) -> &'a str {
        let mut at = bytes.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at += 1;
        }
        let (piece, rest) = self.text.split_at(at);
        self.text = rest;
        piece
    }

    /// Each as long as what people say to each other.
    fn short_messages(&mut self, bytes: usize) -> Vec<Value> {
        let role = |at: usize| if at.is_multiple_of(2) { "user" } else { "assistant" };
        let mut messages = Vec::new();
        let mut left = bytes;
        while left > 0 {
            let length = (20 + self.random.below(200)).min(left);
            messages.push(json!({"role": role(messages.len()), "content": self.piece(length)}));
            left -= length;
        }
        if messages.len().is_multiple_of(2) {
            messages.pop();
        }
        messages
    }

    fn tools(&mut self, bytes: usize) -> Value {
        let tool = |at: usize| {
            let parameters = json!({"type": "object", "properties": {
                "path": {"type": "string", "description": self.piece(200)},
                "limit": {"type": "integer", "description": self.piece(100)},
            }, "required": ["path"]});
            let name = format!("tool_{at}");
            json!({"type": "function", "function": {
                "name": name, "description": self.piece(500), "parameters": parameters,
            }})
        };
        (0..bytes / 1_024).map(tool).collect()
    }

    fn messages(&mut self, bytes: usize) -> Vec<Value> {
        let mut messages = vec![json!({"role": "system", "content": self.piece(1_500)})];
        let mut left = bytes.saturating_sub(1_500);
        while left > 0 {
            let length = (200 + self.random.below(4_000)).min(left);
            let role = if messages.len() % 2 == 1 { "user" } else { "assistant" };
            messages.push(json!({"role": role, "content": self.piece(length)}));
            left -= length;
        }
        messages
    }
}
