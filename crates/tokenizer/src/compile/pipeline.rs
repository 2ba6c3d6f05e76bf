//! Normalizer and pre-tokenizer: what of the library's parts a table can say.

use serde_json::Value;

use super::{CompileError, automaton, file, unsupported};
use crate::normalize::SPACE;
use crate::table::{
    FLAG_CHARS, FLAG_CUT_EACH, FLAG_META_ALWAYS, FLAG_META_FIRST, FLAG_META_SPACE, FLAG_NFC,
    FLAG_PREFIX_SPACE, FLAG_SPACE, MAX_STAGES,
};

/// The split of the library's ByteLevel pre-tokenizer, GPT-2's.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

#[derive(Default)]
pub(super) struct Pipeline {
    pub(super) flags: u32,
    pub(super) prepend: String,
    pub(super) stages: Vec<automaton::Stage>,
}

impl Pipeline {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What the normalizer makes of an added token's content.
    pub(super) fn normalize(&self, text: &str) -> String {
        use unicode_normalization_alignments::UnicodeNormalization;
        if self.has(FLAG_NFC) {
            return text.nfc().map(|(c, _)| c).collect();
        }
        let mut out = if text.is_empty() { String::new() } else { self.prepend.clone() };
        match self.has(FLAG_SPACE) {
            true => out.push_str(&text.replace(' ', SPACE)),
            false => out.push_str(text),
        }
        out
    }
}

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or("without a type")
}

fn flag(part: &Value, name: &str, default: bool) -> bool {
    part.get(name).and_then(Value::as_bool).unwrap_or(default)
}

/// The parts of a Sequence, or the one part, or none.
fn parts<'v>(part: &'v Value, list: &str) -> Vec<&'v Value> {
    if part.is_null() {
        return Vec::new();
    }
    match part.get(list).and_then(Value::as_array) {
        Some(inner) if kind(part) == "Sequence" => {
            inner.iter().flat_map(|part| parts(part, list)).collect()
        }
        _ => vec![part],
    }
}

pub(super) fn read(file: &file::File) -> Result<Pipeline, CompileError> {
    let mut pipeline = Pipeline::default();
    normalizer(&mut pipeline, &file.normalizer)?;
    pre_tokenizer(&mut pipeline, &file.pre_tokenizer)?;
    Ok(pipeline)
}

fn normalizer(pipeline: &mut Pipeline, part: &Value) -> Result<(), CompileError> {
    for part in parts(part, "normalizers") {
        let refuse = || unsupported(format!("the normalizer {part}"));
        let alone = pipeline.flags == 0 && pipeline.prepend.is_empty();
        match kind(part) {
            "NFC" if alone => pipeline.flags |= FLAG_NFC,
            "Prepend" if alone => {
                let prepend = part.get("prepend").and_then(Value::as_str).ok_or_else(refuse)?;
                // A space in it would be replaced by what follows, others stay.
                if prepend.contains(' ') {
                    return Err(refuse());
                }
                pipeline.prepend = prepend.into();
            }
            "Replace" if !pipeline.has(FLAG_NFC) => {
                let from =
                    part.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str);
                let to = part.get("content").and_then(Value::as_str);
                if (from, to) != (Some(" "), Some(SPACE)) {
                    return Err(refuse());
                }
                pipeline.flags |= FLAG_SPACE;
            }
            _ => return Err(refuse()),
        }
    }
    Ok(())
}

fn pre_tokenizer(pipeline: &mut Pipeline, part: &Value) -> Result<(), CompileError> {
    let parts = parts(part, "pretokenizers");
    let mut byte_level = false;
    for (i, part) in parts.iter().enumerate() {
        let refuse = || unsupported(format!("the pre-tokenizer {part}"));
        match kind(part) {
            "Split" if !byte_level => split(pipeline, part)?,
            "Digits" if !byte_level => {
                let numeric = numeric(flag(part, "individual_digits", false));
                pipeline.stages.push(automaton::build(&numeric, false)?);
            }
            "ByteLevel" if !byte_level => {
                if flag(part, "add_prefix_space", true) {
                    // Later it would prefix every piece.
                    if i > 0 {
                        return Err(refuse());
                    }
                    pipeline.flags |= FLAG_PREFIX_SPACE;
                }
                if flag(part, "use_regex", true) {
                    pipeline.stages.push(automaton::build(GPT2, false)?);
                }
                byte_level = true;
            }
            "Metaspace" if parts.len() == 1 => metaspace(pipeline, part)?,
            _ => return Err(refuse()),
        }
    }
    if pipeline.stages.len() > MAX_STAGES {
        return Err(unsupported(format!("{} split stages", pipeline.stages.len())));
    }
    if !byte_level {
        if !pipeline.stages.is_empty() {
            return Err(unsupported("split patterns without byte level"));
        }
        pipeline.flags |= FLAG_CHARS;
    }
    Ok(())
}

fn split(pipeline: &mut Pipeline, part: &Value) -> Result<(), CompileError> {
    let field = |name| part.get("pattern").and_then(|p| p.get(name)).and_then(Value::as_str);
    if pipeline.has(FLAG_SPACE) && field("String") == Some(" ") {
        // Gemma: the normalizer has left no space to split at.
        return Ok(());
    }
    let behavior = part.get("behavior").and_then(Value::as_str).unwrap_or_default();
    let invert = flag(part, "invert", false);
    let drop = match (behavior, invert) {
        ("Isolated", _) => false,
        // Keeps the matches and drops what lies between.
        ("Removed", true) => true,
        _ => {
            return Err(unsupported(format!(
                "a Split with behavior {behavior} and invert {invert}"
            )));
        }
    };
    let pattern = match (field("Regex"), field("String")) {
        (Some(regex), _) => regex.to_owned(),
        (None, Some(string)) => regex_syntax::escape(string),
        (None, None) => return Err(unsupported("a Split without a pattern")),
    };
    pipeline.stages.push(automaton::build(&pattern, drop)?);
    Ok(())
}

fn metaspace(pipeline: &mut Pipeline, part: &Value) -> Result<(), CompileError> {
    if part.get("replacement").and_then(Value::as_str) != Some(SPACE) {
        return Err(unsupported(format!("the pre-tokenizer {part}")));
    }
    let scheme = match part.get("prepend_scheme").and_then(Value::as_str) {
        _ if part.get("add_prefix_space").and_then(Value::as_bool) == Some(false) => "never",
        Some(scheme) => scheme,
        None => "always",
    };
    pipeline.flags |= FLAG_META_SPACE
        | match scheme {
            "always" => FLAG_META_ALWAYS,
            "first" => FLAG_META_FIRST,
            "never" => 0,
            other => return Err(unsupported(format!("the Metaspace prepend scheme {other}"))),
        };
    if flag(part, "split", true) {
        pipeline.flags |= FLAG_CUT_EACH;
    }
    Ok(())
}

/// Digits as the library sees them: `char::is_numeric`.
fn numeric(individual: bool) -> String {
    let mut class = String::from("[");
    let mut codes = (0..=0x10_FFFF).filter_map(char::from_u32).peekable();
    while let Some(first) = codes.next() {
        if !first.is_numeric() {
            continue;
        }
        let mut last = first;
        while let Some(next) = codes.next_if(|c| c.is_numeric()) {
            last = next;
        }
        let (first, last) = (u32::from(first), u32::from(last));
        class.push_str(&format!(r"\x{{{first:X}}}-\x{{{last:X}}}"));
    }
    class.push_str(if individual { "]" } else { "]+" });
    class
}
