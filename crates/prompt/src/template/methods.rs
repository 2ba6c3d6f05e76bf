//! Python's methods of `str`, `list` and `dict` that templates call.
//!
//! minijinja-contrib's pycompat answers most of them. Here is what it lacks, and
//! what it does otherwise than Python: white space includes U+001C to U+001F,
//! lines end at more than line feeds, `join` takes text only. Predicates that
//! depend on Python's Unicode tables answer for ASCII and fail beyond it.

use super::python::is_space;
use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// What minijinja calls for methods that its own values lack.
pub(crate) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match value.as_str() {
        Some(text) => text_method(text, method, args)?,
        None => container_method(value, method, args)?,
    };
    match own {
        Some(value) => Ok(value),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let value = match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, method != "rstrip", method != "lstrip"))
        }
        "split" | "rsplit" => {
            let (separator, most, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = match separator {
                None => kwargs.get::<Option<Value>>("sep")?,
                given => given,
            };
            let separator = separator.filter(|value| !value.is_none());
            let most = match most {
                None => kwargs.get::<Option<i64>>("maxsplit")?,
                given => given,
            };
            kwargs.assert_all_used()?;
            let most = usize::try_from(most.unwrap_or(-1)).unwrap_or(usize::MAX);
            let pieces = match &separator {
                None => split_space(text, most, method == "rsplit"),
                Some(separator) => {
                    let separator = separator
                        .as_str()
                        .filter(|separator| !separator.is_empty())
                        .ok_or_else(|| invalid("the separator is no text"))?;
                    split_on(text, separator, most, method == "rsplit")
                }
            };
            pieces.into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let (found, whole) = match method {
                "partition" => (text.split_once(separator), [text, "", ""]),
                _ => (text.rsplit_once(separator), ["", "", text]),
            };
            let parts = found.map_or(whole, |(head, tail)| [head, separator, tail]);
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = match keep {
                None => kwargs.get::<Option<bool>>("keepends")?.unwrap_or(false),
                Some(keep) => keep,
            };
            kwargs.assert_all_used()?;
            lines(text, keep).into_iter().map(Value::from).collect()
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let mut joined = String::new();
            for (at, item) in items.try_iter()?.checked().enumerate() {
                joined.push_str(if at > 0 { text } else { "" });
                let item = item?;
                joined.push_str(item.as_str().ok_or_else(|| invalid("join takes text only"))?);
            }
            Value::from(joined)
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (what, range): (&str, Rest<Value>) = from_args(args)?;
            let (part, start) = between(text, &range)?;
            let at = if method.starts_with('r') { part.rfind(what) } else { part.find(what) };
            match at.and_then(|at| part.get(..at)) {
                Some(head) => Value::from(start + head.chars().count()),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(invalid("substring not found")),
            }
        }
        "startswith" | "endswith" if args.len() > 1 => {
            let (what, range): (&Value, Rest<Value>) = from_args(args)?;
            let (part, _) = between(text, &range)?;
            return text_method(part, method, std::slice::from_ref(what)).and_then(
                |own| match own {
                    None => Err(invalid("a range of the text")),
                    own => Ok(own),
                },
            );
        }
        "startswith" | "endswith" => {
            let (what,): (&Value,) = from_args(args)?;
            let holds = |what: &Value| match what.as_str() {
                Some(what) if method == "startswith" => Ok(text.starts_with(what)),
                Some(what) => Ok(text.ends_with(what)),
                None => Err(invalid("the affix is no text")),
            };
            let mut found = false;
            match what.as_str() {
                Some(_) => found = holds(what)?,
                None => {
                    for what in what.try_iter()?.checked() {
                        found |= holds(&what?)?;
                    }
                }
            }
            Value::from(found)
        }
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            Value::from(pad(text, method, width, fill)?)
        }
        "isdigit" | "isnumeric" | "isdecimal" => {
            ascii_predicate(text, args, |byte| byte.is_ascii_digit())?
        }
        "isalpha" => ascii_predicate(text, args, |byte| byte.is_ascii_alphabetic())?,
        "isalnum" => ascii_predicate(text, args, |byte| byte.is_ascii_alphanumeric())?,
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        "title" | "capitalize" | "islower" | "isupper" | "swapcase" | "casefold"
            if !text.is_ascii() =>
        {
            return Err(invalid("case beyond ASCII is not reproduced"));
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swapped = text.chars().map(|char| match char.is_ascii_uppercase() {
                true => char.to_ascii_lowercase(),
                false => char.to_ascii_uppercase(),
            });
            Value::from(swapped.collect::<String>())
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_ascii_lowercase())
        }
        "istitle" if text.is_ascii() => {
            let () = from_args(args)?;
            Value::from(text.bytes().any(|byte| byte.is_ascii_alphabetic()) && title(text) == text)
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn container_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" if matches!(value.kind(), ValueKind::Map | ValueKind::Seq) => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            for (at, item) in value.try_iter()?.checked().enumerate() {
                if item? == *what {
                    return Ok(Some(Value::from(at)));
                }
            }
            Err(invalid("the value is not in the list"))
        }
        _ => Ok(None),
    }
}

/// The characters of `text` in a range as methods take it, and how many are before.
fn between<'a>(text: &'a str, range: &[Value]) -> Result<(&'a str, usize), Error> {
    let (start, end) = match range {
        [] => return Ok((text, 0)),
        [start] => (usize::try_from(start.clone())?, None),
        [start, end] => (usize::try_from(start.clone())?, Some(usize::try_from(end.clone())?)),
        _ => return Err(invalid("too many arguments")),
    };
    let at = |count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    let (from, to) = (at(start), end.map_or(text.len(), at));
    if start > text.chars().count() {
        // Nothing is found there, not even nothing.
        return Err(invalid("a range beyond the text"));
    }
    Ok((text.get(from..to.max(from)).unwrap_or(""), start))
}

/// `str.strip`, `lstrip`, `rstrip`; without `chars`, of white space.
pub(crate) fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let drop = |char: char| match chars {
        Some(chars) => chars.contains(char),
        None => is_space(char),
    };
    let text = if left { text.trim_start_matches(drop) } else { text };
    if right { text.trim_end_matches(drop) } else { text }
}

fn split_on<'a>(text: &'a str, separator: &str, most: usize, right: bool) -> Vec<&'a str> {
    let pieces = most.saturating_add(1);
    if right {
        let mut pieces: Vec<&str> = text.rsplitn(pieces, separator).collect();
        pieces.reverse();
        pieces
    } else {
        text.splitn(pieces, separator).collect()
    }
}

fn split_space(text: &str, most: usize, right: bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = strip(text, None, !right, right);
    while !rest.is_empty() {
        if pieces.len() == most {
            pieces.push(rest);
            break;
        }
        let cut = if right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut else {
            pieces.push(rest);
            break;
        };
        let (head, tail) = rest.split_at(cut);
        if right {
            pieces.push(strip(tail, None, true, false));
            rest = strip(head, None, false, true);
        } else {
            pieces.push(head);
            rest = strip(tail, None, true, false);
        }
    }
    if right {
        pieces.reverse();
    }
    pieces
}

fn lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = |char: char| {
        matches!(
            char,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let end = rest.get(at..).unwrap_or("");
        let length = match end.starts_with("\r\n") {
            true => 2,
            false => end.chars().next().map_or(0, char::len_utf8),
        };
        let (line, tail) = rest.split_at(at + length);
        lines.push(if keep { line } else { rest.get(..at).unwrap_or("") });
        rest = tail;
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

pub(super) fn pad(
    text: &str,
    method: &str,
    width: usize,
    fill: Option<&str>,
) -> Result<String, Error> {
    const MAX_WIDTH: usize = 65_536;
    let fill = fill.unwrap_or(if method == "zfill" { "0" } else { " " });
    let missing = width.saturating_sub(text.chars().count());
    if fill.chars().count() != 1 || width > MAX_WIDTH {
        return Err(invalid("the fill is not one character, or the width too large"));
    }
    Ok(match method {
        "ljust" => format!("{text}{}", fill.repeat(missing)),
        "rjust" => format!("{}{text}", fill.repeat(missing)),
        "zfill" => {
            let sign = if text.starts_with(['+', '-']) { text.get(..1).unwrap_or("") } else { "" };
            let digits = text.strip_prefix(sign).unwrap_or(text);
            format!("{sign}{}{digits}", fill.repeat(missing))
        }
        // Python puts the odd one to the left exactly where both are odd.
        _ => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
        }
    })
}

fn ascii_predicate(text: &str, args: &[Value], holds: fn(u8) -> bool) -> Result<Value, Error> {
    let () = from_args(args)?;
    if !text.is_ascii() {
        return Err(invalid("character classes beyond ASCII are not reproduced"));
    }
    Ok(Value::from(!text.is_empty() && text.bytes().all(holds)))
}

fn title(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|char| {
            let shown = if inside { char.to_ascii_lowercase() } else { char.to_ascii_uppercase() };
            inside = char.is_ascii_alphabetic();
            shown
        })
        .collect()
}
