//! Template sources, made fit for minijinja before it compiles them.
//!
//! Three things are rewritten, inside tags only and never in text, comments or
//! string literals. Line ends become line feeds, as in Jinja's lexer.
//! `generation` blocks become `with` blocks: both render their body in a scope of
//! its own. `x[::-1]` becomes a filter, because minijinja panics on reversing what
//! is empty; `crate::detect` refuses other backward slices when a folder is loaded.

use super::{JOINED, REVERSED};

/// `prepared` with sums that are printed made into one filter, `{{ a + b + c }}` into
/// `{{ (a)|joined((b), (c)) }}`: messages are printed so, and each `+` would copy all
/// before it. Only where nothing but `+` stands between the terms.
pub(crate) fn join_sums(prepared: &str) -> String {
    let mut out = String::with_capacity(prepared.len());
    for part in Parts::of(prepared) {
        match part {
            Part::Text(same) | Part::Statement(same, _) => out.push_str(same),
            Part::Expression(tag) => out.push_str(joined(tag).as_deref().unwrap_or(tag)),
        }
    }
    out
}

/// The tag with its sum joined, if it is one.
fn joined(tag: &str) -> Option<String> {
    let inner = tag.strip_prefix("{{")?.strip_suffix("}}")?;
    let mark = |char: Option<char>| char.filter(|char| matches!(char, '-' | '+'));
    let (open, close) = (mark(inner.chars().next()), mark(inner.chars().next_back()));
    let inner = inner.get(open.map_or(0, char::len_utf8)..)?;
    let inner = inner.get(..inner.len().checked_sub(close.map_or(0, char::len_utf8))?)?;
    let terms = terms(inner)?;
    let (first, others) = terms.split_first().filter(|(_, others)| !others.is_empty())?;
    let others: Vec<String> = others.iter().map(|term| format!("({term})")).collect();
    let mark = |mark: Option<char>| mark.map_or(String::new(), String::from);
    let (open, close) = (mark(open), mark(close));
    Some(format!("{{{{{open} ({first})|{JOINED}({}) {close}}}}}", others.join(", ")))
}

/// The terms of a sum; nothing where anything else may bind less than `+`.
fn terms(sum: &str) -> Option<Vec<&str>> {
    let (mut terms, mut start, mut at, mut depth) = (Vec::new(), 0, 0, 0usize);
    while let Some(char) = sum.get(at..)?.chars().next() {
        let rest = sum.get(at..)?;
        if let Some(length) = literal(rest) {
            at += length;
            continue;
        }
        if char.is_alphanumeric() || char == '_' {
            let length = rest
                .find(|char: char| !char.is_alphanumeric() && char != '_')
                .unwrap_or(rest.len());
            let operator = matches!(
                rest.get(..length)?,
                "if" | "else" | "and" | "or" | "not" | "in" | "is" | "recursive"
            );
            if operator && depth == 0 {
                return None;
            }
            at += length;
            continue;
        }
        match char {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            _ if depth > 0 => {}
            '+' => {
                terms.push(sum.get(start..at)?.trim());
                start = at + 1;
            }
            '.' | '|' => {}
            char if char.is_whitespace() => {}
            _ => return None,
        }
        at += char.len_utf8();
    }
    terms.push(sum.get(start..)?.trim());
    terms.iter().all(|term| !term.is_empty()).then_some(terms)
}

/// The source that is compiled in the place of `source`.
pub(crate) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    for part in Parts::of(&source) {
        match part {
            Part::Text(same) => out.push_str(same),
            Part::Statement(tag, word) => statement(&mut out, tag, word),
            Part::Expression(tag) => expression(&mut out, tag),
        }
    }
    out
}

/// A stretch of a template's source.
pub(super) enum Part<'s> {
    /// What is written as it stands: text, comments, and tags in a raw block.
    Text(&'s str),
    /// `{% … %}`, and its first word.
    Statement(&'s str, &'s str),
    /// `{{ … }}`
    Expression(&'s str),
}

/// The stretches of a source, in order and without gaps.
pub(super) struct Parts<'s> {
    rest: &'s str,
    raw: bool,
}

impl<'s> Parts<'s> {
    pub(super) fn of(source: &'s str) -> Self {
        Self { rest: source, raw: false }
    }

    fn take(&mut self, length: usize) -> &'s str {
        let (part, rest) = self.rest.split_at(length);
        self.rest = rest;
        part
    }
}

impl<'s> Iterator for Parts<'s> {
    type Item = Part<'s>;

    fn next(&mut self) -> Option<Part<'s>> {
        let part = match self.rest.as_bytes() {
            [] => return None,
            [b'{', b'%', ..] => {
                let tag = self.take(tag_length(self.rest, "%}"));
                let word = word(tag);
                if self.raw && word != "endraw" {
                    return Some(Part::Text(tag));
                }
                self.raw = word == "raw";
                Part::Statement(tag, word)
            }
            [b'{', b'{', ..] if !self.raw => {
                Part::Expression(self.take(tag_length(self.rest, "}}")))
            }
            [b'{', b'#', ..] if !self.raw => {
                let length = self.rest.find("#}").map_or(self.rest.len(), |end| end + 2);
                Part::Text(self.take(length))
            }
            [b'{', ..] => Part::Text(self.take(1)),
            _ => Part::Text(self.take(self.rest.find('{').unwrap_or(self.rest.len()))),
        };
        Some(part)
    }
}

/// Whether `source` marks what the model generates, with a tag that is transformers' own.
pub(crate) fn marks_generation(source: &str) -> bool {
    source.match_indices("{%").any(|(at, _)| source.get(at..).map(word) == Some("generation"))
}

/// Bytes up to the end of the tag, beyond string literals.
fn tag_length(tag: &str, end: &str) -> usize {
    let mut at = 2;
    while let Some(rest) = tag.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(end) {
            return at + end.len();
        }
        at += literal(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
    }
    tag.len()
}

/// The length of the string literal that `text` starts with.
pub(super) fn literal(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|char| matches!(char, '"' | '\''))?;
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            char if char == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The name of the statement that `tag` is.
fn word(tag: &str) -> &str {
    let tag = tag.trim_start_matches("{%").trim_start_matches(['-', '+']).trim_start();
    tag.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap_or("")
}

fn statement(out: &mut String, tag: &str, word: &str) {
    let replacement = match word {
        "generation" => "with",
        "endgeneration" => "endwith",
        _ => return expression(out, tag),
    };
    out.push_str(&tag.replacen(word, replacement, 1));
}

fn expression(out: &mut String, tag: &str) {
    let mut rest = tag;
    while let Some(char) = rest.chars().next() {
        let reversal = reversal(rest);
        let length = reversal.or_else(|| literal(rest)).unwrap_or(char.len_utf8());
        let (piece, tail) = rest.split_at(length);
        match reversal {
            Some(_) => {
                out.push('|');
                out.push_str(REVERSED);
            }
            None => out.push_str(piece),
        }
        rest = tail;
    }
}

/// The length of `[::-1]`, white space allowed.
fn reversal(text: &str) -> Option<usize> {
    let mut rest = text;
    for token in ["[", ":", ":", "-", "1", "]"] {
        rest = rest.trim_start().strip_prefix(token)?;
    }
    text.starts_with('[').then(|| text.len() - rest.len())
}
