//! How Python writes values: `str`, `repr` and `json.dumps`.
//!
//! Prompts depend on it to the byte: `1e-07` and `0.0000001` are different
//! tokens. What would need Python's tables of printable characters fails.

use super::value::{PyDict, PyFloat, PyList};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

const MAX_DEPTH: usize = 200;

fn refuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Whether Python's `str.isspace` holds.
pub(crate) fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char)
}

/// `str(value)`.
pub(crate) fn str(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => repr(value),
    }
}

/// `repr(value)`; undefined prints as nothing.
pub(crate) fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    if !value.is_undefined() {
        write_repr(&mut out, value, 0)?;
    }
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refuse("a value is nested too deeply"));
    }
    if let Some(number) = exponential(value) {
        out.push_str(&number);
        return Ok(());
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)?),
        ValueKind::String => write_str_repr(out, value.as_str().unwrap_or(""))?,
        ValueKind::Seq => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let items = items(value)?;
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_repr(out, item, depth + 1)?;
            }
            out.push_str(match (tuple, items.len()) {
                (true, 1) => ",)",
                (true, _) => ")",
                _ => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (at, (key, item)) in entries(value)?.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_repr(out, key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, item, depth + 1)?;
            }
            out.push('}');
        }
        // A macro's output is text that minijinja marks safe, hence a string; what
        // is left has an address or a class name in Python's words.
        kind => return Err(refuse(format!("printing a {kind} is not reproduced"))),
    }
    Ok(())
}

fn write_str_repr(out: &mut String, text: &str) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char == quote => {
                out.push('\\');
                out.push(char);
            }
            ' '..='~' => out.push(char),
            '\0'..='\u{a0}' | '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(char));
            }
            char if char.is_alphanumeric() => out.push(char),
            _ => return Err(refuse("the repr of text beyond letters is not reproduced")),
        }
    }
    out.push(quote);
    Ok(())
}

/// Whether `value` is a float with an exponent.
pub(crate) fn is_float(value: &Value) -> bool {
    value.downcast_object_ref::<PyFloat>().is_some()
}

/// A float with an exponent, as Python writes it.
fn exponential(value: &Value) -> Option<String> {
    value.downcast_object_ref::<PyFloat>().map(|number| float(number.0))
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone())?;
    if number.is_finite() { Ok(float(number)) } else { Err(refuse("a number is not finite")) }
}

/// `repr` of a finite float: the shortest digits that read back, with an exponent
/// below 1e-4 and from 1e16 on.
pub(crate) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let mut plain = number.to_string();
    if !plain.contains('.') {
        plain.push_str(".0");
    }
    plain
}

/// The items of a sequence.
pub(crate) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    match value.downcast_object_ref::<PyList>() {
        Some(list) => Ok(list.items().to_vec()),
        None => value.try_iter()?.checked().collect(),
    }
}

/// The entries of a mapping.
pub(crate) fn entries(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    if let Some(dict) = value.downcast_object_ref::<PyDict>() {
        return Ok(dict.entries().map(|(key, value)| (key.into(), value.clone())).collect());
    }
    let keys: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
    keys.into_iter()
        .map(|key| {
            let item = value.get_item(&key)?;
            Ok((key, item))
        })
        .collect()
}

/// How `json.dumps` lays out.
pub(crate) struct Layout {
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    pub ensure_ascii: bool,
}

/// `json.dumps(value)`.
pub(crate) fn dumps(value: &Value, layout: &Layout) -> Result<String, Error> {
    let mut out = String::new();
    Dump { out: &mut out, layout }.value(value, 0)?;
    Ok(out)
}

struct Dump<'a> {
    out: &'a mut String,
    layout: &'a Layout,
}

impl Dump<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refuse("a value is nested too deeply"));
        }
        if let Some(number) = exponential(value) {
            self.out.push_str(&number);
            return Ok(());
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)?),
            ValueKind::String => self.text(value.as_str().unwrap_or("")),
            ValueKind::Seq => {
                let items = items(value)?;
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.separate(at, depth);
                    self.value(item, depth + 1)?;
                }
                self.close(']', items.len(), depth);
            }
            ValueKind::Map => {
                let mut entries = entries(value)?;
                if self.layout.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.out.push('{');
                for (at, (key, item)) in entries.iter().enumerate() {
                    self.separate(at, depth);
                    match key.kind() {
                        ValueKind::String => self.text(key.as_str().unwrap_or("")),
                        ValueKind::Number => {
                            let key = number(key)?;
                            self.text(&key);
                        }
                        ValueKind::Bool => self.text(if key.is_true() { "true" } else { "false" }),
                        ValueKind::None => self.text("null"),
                        kind => return Err(refuse(format!("a {kind} is no key in JSON"))),
                    }
                    self.out.push_str(&self.layout.key_separator);
                    self.value(item, depth + 1)?;
                }
                self.close('}', entries.len(), depth);
            }
            kind => return Err(refuse(format!("a {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn separate(&mut self, at: usize, depth: usize) {
        if at > 0 {
            self.out.push_str(&self.layout.item_separator);
        }
        self.line(depth + 1);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.layout.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn close(&mut self, bracket: char, items: usize, depth: usize) {
        if items > 0 {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for char in text.chars() {
            match char {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(u32::from(char)),
                char if self.layout.ensure_ascii && char > '~' => {
                    let mut units = [0; 2];
                    for unit in char.encode_utf16(&mut units) {
                        self.escape(u32::from(*unit));
                    }
                }
                char => self.out.push(char),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, unit: u32) {
        let _ = write!(self.out, "\\u{unit:04x}");
    }
}
