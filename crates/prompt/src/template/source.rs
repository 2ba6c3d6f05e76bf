//! Template sources, made fit for minijinja before it compiles them.
//!
//! Three things are rewritten, inside tags only and never in text, comments or
//! string literals. Line ends become line feeds, as in Jinja's lexer.
//! `generation` blocks become `with` blocks: both render their body in a scope of
//! its own. `x[::-1]` becomes a filter, because minijinja panics on reversing what
//! is empty; `crate::detect` refuses other backward slices when a folder is loaded.

/// The filter that stands for `[::-1]`.
pub(crate) const REVERSED: &str = "warmpath_reversed";

/// The source that is compiled in the place of `source`.
pub(crate) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut raw = false;
    while let Some(at) = rest.find('{') {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let length = match tag.as_bytes() {
            [b'{', b'%', ..] => {
                let length = tag_length(tag, "%}");
                let (tag, _) = tag.split_at(length);
                let word = word(tag);
                if !raw || word == "endraw" {
                    raw = word == "raw";
                    statement(&mut out, tag, word);
                } else {
                    out.push_str(tag);
                }
                length
            }
            [b'{', b'{', ..] if !raw => {
                let length = tag_length(tag, "}}");
                expression(&mut out, tag.split_at(length).0);
                length
            }
            [b'{', b'#', ..] if !raw => {
                let length = tag.find("#}").map_or(tag.len(), |end| end + 2);
                out.push_str(tag.split_at(length).0);
                length
            }
            _ => {
                out.push('{');
                1
            }
        };
        rest = tag.split_at(length).1;
    }
    out.push_str(rest);
    out
}

/// Whether `source` marks what the model generates, with a tag that is transformers' own.
#[cfg(feature = "library")]
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
fn literal(text: &str) -> Option<usize> {
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
