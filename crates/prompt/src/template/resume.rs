//! Templates rewritten so that their loop over the messages can begin in the middle.
//!
//! A conversation comes back with every turn, and all but its end was rendered before.
//! The last loop over `messages`, or over what is left of them behind a first one, is made
//! one that [`super::watch`] follows:
//!
//! ```text
//! {% set ns.a = warmpath_run.saved(0, ns.a) %}{% for m in warmpath_run.rest(messages) %}
//! {% set warmpath_loop = warmpath_run.step(loop, ns.a) %}…{% endfor %}
//! {% set warmpath_loop = warmpath_run.step(none, ns.a) %}
//! ```
//!
//! Between two iterations nothing but namespaces, made once before the loop, may have
//! changed: what `set` names inside a loop ends with its iteration. Whatever could carry
//! more along (state in macros, cyclers, an alias of a namespace) leaves the template as
//! it was, and so does all that is not understood: it is then rendered whole each time.

use super::source::{Part, Parts, literal};
use super::watch::{LOOP_NAMES, RUN};

/// The template's `loop` in the rewritten one.
const LOOP: &str = "warmpath_loop";
/// Words of what has state beyond namespaces.
const FOREIGN: [&str; 7] = ["caller", "changed", "cycle", "cycler", "joiner", "recursive", "self"];
/// Statements that end a loop, or that bring in another template.
const STATEMENTS: [&str; 6] = ["block", "break", "extends", "from", "import", "include"];
/// Statements that have an end.
const BLOCKS: [&str; 8] =
    ["for", "if", "macro", "call", "filter", "with", "autoescape", "generation"];

/// A word in a tag; what is in string literals is none.
struct Word<'s> {
    text: &'s str,
    /// Where it begins and ends in its tag.
    at: usize,
    end: usize,
    /// Whether it follows a dot.
    attribute: bool,
}

fn words(tag: &str) -> Vec<Word<'_>> {
    let (mut words, mut at, mut before) = (Vec::new(), 0, ' ');
    while let Some(rest) = tag.get(at..).filter(|rest| !rest.is_empty()) {
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        let length = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        if length > 0 {
            let (text, end) = (rest.get(..length).unwrap_or_default(), at + length);
            words.push(Word { text, at, end, attribute: before == '.' });
            (before, at) = ('a', end);
            continue;
        }
        let char = rest.chars().next().unwrap_or(' ');
        at += literal(rest).unwrap_or(char.len_utf8());
        if !char.is_whitespace() {
            before = char;
        }
    }
    words
}

/// A tag without its ends: `for m in messages` of `{%- for m in messages %}`, words
/// parted by one space.
fn inner(tag: &str) -> String {
    let inner = tag.trim_start_matches(['{', '%', '-', '+']);
    let inner = inner.trim_end_matches(['}', '%', '-', '+']);
    inner.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `{%-` of a tag, and `-%}`.
fn ends(tag: &str) -> (&str, &str) {
    let open = if tag.as_bytes().get(2).is_some_and(|byte| b"-+".contains(byte)) { 3 } else { 2 };
    let close = tag.len().saturating_sub(3);
    let marked = tag.as_bytes().get(close).is_some_and(|byte| b"-+".contains(byte));
    let close = if marked { close } else { close + 1 };
    (tag.get(..open).unwrap_or("{%"), tag.get(close..).unwrap_or("%}"))
}

/// What is to be known of a template.
#[derive(Default)]
struct Survey<'s> {
    /// Statements that are open, with their places.
    open: Vec<(&'s str, usize)>,
    /// Names for the messages.
    lists: Vec<String>,
    /// Namespaces made, and where.
    made: Vec<(String, usize)>,
    /// `a.b` of `set a.b`.
    attributes: Vec<(String, String)>,
    /// The last loop over messages that could be one to begin in the middle.
    candidate: Option<(usize, usize)>,
    /// How many times the word was seen.
    namespaces: usize,
}

impl<'s> Survey<'s> {
    fn of(parts: &[Part<'s>]) -> Option<Survey<'s>> {
        let mut survey = Survey { lists: vec!["messages".to_owned()], ..Survey::default() };
        for (place, part) in parts.iter().enumerate() {
            let (tag, statement) = match *part {
                Part::Text(_) => continue,
                Part::Expression(tag) => (tag, ""),
                Part::Statement(tag, word) => (tag, word),
            };
            let words = words(tag);
            let foreign = |word: &Word<'_>| FOREIGN.contains(&word.text) || word.text == RUN;
            if words.iter().any(foreign) || STATEMENTS.contains(&statement) {
                return None;
            }
            survey.namespaces += words.iter().filter(|word| word.text == "namespace").count();
            survey.statement(place, tag, statement)?;
        }
        let once = |(name, _): &&(String, usize)| {
            survey.made.iter().filter(|(other, _)| other == name).count() == 1
        };
        let (first, _) = survey.candidate?;
        let made: Vec<_> = survey.made.iter().filter(once).filter(|(_, at)| *at < first).collect();
        let known = |(name, _): &(String, String)| made.iter().any(|(made, _)| made == name);
        // A namespace that is made elsewhere, or by an expression, could be any of them.
        (survey.open.is_empty()
            && made.len() == survey.namespaces
            && survey.attributes.iter().all(known)
            && !survey.is_shadowed(parts))
        .then_some(survey)
    }

    fn statement(&mut self, place: usize, tag: &str, statement: &'s str) -> Option<()> {
        let inner = inner(tag);
        let inside = |block: &str, open: &[(&str, usize)]| open.iter().any(|(it, _)| *it == block);
        match statement {
            "set" => {
                let Some((target, value)) = inner.split_once('=') else {
                    self.open.push((statement, place));
                    return Some(());
                };
                let (target, value) = (target.trim_start_matches("set").trim(), value.trim());
                if let Some((name, attribute)) = target.split_once('.') {
                    let entry = (name.to_owned(), attribute.to_owned());
                    if inside("macro", &self.open) || inside("call", &self.open) {
                        return None;
                    }
                    if !self.attributes.contains(&entry) {
                        self.attributes.push(entry);
                    }
                } else if value.starts_with("namespace(") && self.open.is_empty() {
                    self.made.push((target.to_owned(), place));
                } else if value == "messages" || value.starts_with("messages[") {
                    self.lists.push(target.to_owned());
                }
            }
            "else" | "elif" => match self.open.last_mut() {
                Some((open, _)) if *open == "for" => *open = "for else",
                _ => {}
            },
            end if end.starts_with("end") && end != "endraw" => {
                let (open, first) = self.open.pop()?;
                if open.trim_end_matches(" else") != end.trim_start_matches("end") {
                    return None;
                }
                let plain = self.open.iter().all(|(open, _)| *open == "if");
                if open == "for" && plain {
                    self.candidate = Some((first, place));
                }
            }
            block if BLOCKS.contains(&block) => self.open.push((block, place)),
            _ => {}
        }
        Some(())
    }

    /// Whether some other variable may have the name of a namespace.
    fn is_shadowed(&self, parts: &[Part<'_>]) -> bool {
        let is_made = |word: &Word<'_>| {
            !word.attribute && self.made.iter().any(|(made, _)| made == word.text)
        };
        parts.iter().any(|part| match part {
            Part::Statement(tag, "for") => {
                words(tag).iter().take_while(|word| word.text != "in").any(is_made)
            }
            Part::Statement(tag, "macro" | "call" | "with") => words(tag).iter().any(is_made),
            Part::Statement(tag, "set") => {
                let inner = inner(tag);
                let target = inner.split('=').next().unwrap_or_default();
                let names = |name: &str| self.made.iter().any(|(made, _)| made == name);
                !inner.contains("= namespace(")
                    && !inner.contains("=namespace(")
                    && target.split([' ', ',']).any(names)
            }
            _ => false,
        })
    }
}

/// `compiled` with a loop that can begin in the middle; none where that might not be the
/// same.
pub(super) fn resumable(compiled: &str) -> Option<String> {
    let parts: Vec<Part<'_>> = Parts::of(compiled).collect();
    let survey = Survey::of(&parts)?;
    let (first, last) = survey.candidate?;
    let Part::Statement(opening, _) = parts.get(first)? else { return None };
    let header = inner(opening);
    let [_, item, "in", list] = header.split(' ').collect::<Vec<_>>()[..] else { return None };
    if !survey.lists.iter().any(|known| known == list) {
        return None;
    }
    let saved: Vec<String> =
        survey.attributes.iter().map(|(name, attribute)| format!("{name}.{attribute}")).collect();
    let step = |own: &str, close: &str| {
        let saved: String = saved.iter().map(|saved| format!(", {saved}")).collect();
        format!("{{% set {LOOP} = {RUN}.step({own}{saved}) {close}")
    };
    let mut out = String::with_capacity(compiled.len() + 256);
    let mut loops = 0;
    for (place, part) in parts.iter().enumerate() {
        let tag = match *part {
            Part::Text(text) => {
                out.push_str(text);
                continue;
            }
            Part::Statement(tag, _) | Part::Expression(tag) => tag,
        };
        let word = if let Part::Statement(_, word) = part { *word } else { "" };
        if place == first {
            let (open, close) = ends(tag);
            for (at, saved) in saved.iter().enumerate() {
                out.push_str(&format!("{open} set {saved} = {RUN}.saved({at}, {saved}) %}}"));
            }
            out.push_str(&format!("{open} for {item} in {RUN}.rest({list}) {close}"));
            out.push_str(&step("loop", close));
        } else if place == last {
            out.push_str(tag);
            out.push_str(&step("none", ends(tag).1));
        } else if place > first && place < last {
            match word {
                // Which of the loops an `else` or a macro means is not worth to find out.
                "macro" | "call" => return None,
                "for" => loops += 1,
                "endfor" => loops -= 1,
                _ => {}
            }
            if word == "for" && has(tag, "loop") {
                return None;
            }
            out.push_str(&if loops == 0 { renamed(tag)? } else { sliced(tag) });
        } else {
            out.push_str(&sliced(tag));
        }
    }
    Some(out)
}

fn has(tag: &str, name: &str) -> bool {
    words(tag).iter().any(|word| word.text == name)
}

/// The tag with `loop` by its other name; none where more is asked of it than that has.
fn renamed(tag: &str) -> Option<String> {
    let words = words(tag);
    let (mut out, mut from) = (String::new(), 0);
    for (at, word) in words.iter().enumerate() {
        if word.text != "loop" || word.attribute {
            continue;
        }
        let name = words.get(at + 1).filter(|name| name.attribute)?;
        if !LOOP_NAMES.contains(&name.text) || tag.get(word.end..name.at)?.trim() != "." {
            return None;
        }
        out.push_str(tag.get(from..word.at)?);
        out.push_str(LOOP);
        from = word.end;
    }
    out.push_str(tag.get(from..)?);
    Some(sliced(&out))
}

/// The tag with `messages[1:]` made a call.
fn sliced(tag: &str) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for word in words(tag).iter().filter(|word| word.text == "messages" && !word.attribute) {
        let rest = tag.get(word.end..).unwrap_or_default();
        let slice = rest.strip_prefix('[').and_then(|rest| rest.split_once(":]"));
        let Some((start, _)) = slice else { continue };
        if start.is_empty() || !start.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        out.push_str(tag.get(from..word.at).unwrap_or_default());
        out.push_str(&format!("{RUN}.from(messages, {start})"));
        from = word.end + start.len() + 3;
    }
    out.push_str(tag.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests;
