//! Bodies of chat requests.

use serde_json::{Value, json};

use super::texts::Random;

/// Four bodies; none has text of another, but the second turn of its first.
pub(crate) struct Bodies {
    /// 16 KB.
    pub(crate) warm_up: String,
    /// The first turn of a chat: 64 KB.
    pub(crate) first: String,
    /// The same with its answer and another question: 1 KB more.
    pub(crate) second: String,
    /// 450 KB, some 128k tokens of a large vocabulary.
    pub(crate) long: String,
}

/// Makes bodies of `text`.
pub(crate) fn bodies(text: &str) -> Bodies {
    let mut source = Source { text, random: Random::new(13) };
    let warm_up = source.messages(16 << 10);
    let mut turns = source.messages(64 << 10);
    let first = body(&turns);
    turns.push(json!({"role": "assistant", "content": source.piece(700)}));
    turns.push(json!({"role": "user", "content": source.piece(300)}));
    let long = source.messages(450 << 10);
    Bodies { warm_up: body(&warm_up), first, second: body(&turns), long: body(&long) }
}

fn body(messages: &[Value]) -> String {
    json!({"model": "bench", "stream": true, "messages": messages}).to_string()
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
