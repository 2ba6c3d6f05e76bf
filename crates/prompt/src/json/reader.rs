//! JSON read as it arrives: a state, a stack, and what is left of the last chunk.
//!
//! One pass, no recursion, and no copy of the text: what a chunk brings is turned into
//! values at once, only a string or number that is cut by its end is kept as bytes.
//! Rejected: collecting the body first, which holds it twice and puts all of the reading
//! into the callback that the request waits for.

use super::names::Names;
use super::text::Text;
use super::{Dict, Json, JsonError, Str};
use crate::cache::Cache;
use crate::trail::{Awaited, Next, Trail};

/// Python's recursion limit ends such bodies too, somewhat later.
const MAX_DEPTH: usize = 128;

/// Reads one JSON value and nothing after it but white space.
#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
    /// Containers that are open.
    stack: Vec<Open>,
    /// The string, number or literal under way.
    text: Text,
    names: Names,
    root: Option<Json>,
    /// Of the root's list `messages`, where it is a chat's.
    trail: Option<Box<Trail>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// Inside a string, which is a key or not.
    String,
    Name,
    /// Inside a number or literal.
    Word,
    /// Only white space.
    Nothing,
}

#[derive(Debug)]
enum Open {
    List(Vec<Json>),
    /// Entries, and the key of the value under way.
    Dict(Vec<(Str, Json)>, Option<Str>),
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            state: State::Value,
            stack: Vec::new(),
            text: Text::default(),
            names: Names::default(),
            root: None,
            trail: None,
        }
    }
}

impl Reader {
    /// A reader of a chat: messages that `cache` knows are not read again.
    pub(crate) fn of_chat() -> Reader {
        Reader { trail: Some(Box::default()), ..Reader::default() }
    }

    /// Reads the next chunk, without a cache. An error is final.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), JsonError> {
        self.read(chunk, None)
    }

    /// Reads the next chunk. An error is final.
    pub(crate) fn feed_known(&mut self, chunk: &[u8], cache: &mut Cache) -> Result<(), JsonError> {
        let mut rest = chunk;
        while let Some(trail) = &mut self.trail {
            let used = match trail.await_in(rest, cache) {
                Awaited::Nothing => break,
                Awaited::More => return Ok(()),
                Awaited::Known(used) => {
                    self.state = State::CommaOrEnd;
                    used
                }
                Awaited::Other(held, used) => {
                    self.read(&held, Some(cache))?;
                    used
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        self.read(rest, Some(cache))
    }

    fn read(&mut self, chunk: &[u8], mut cache: Option<&mut Cache>) -> Result<(), JsonError> {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            match self.state {
                State::String | State::Name => match self.text.read(chunk, at)? {
                    Some(quote) => {
                        at = quote + 1;
                        let text = self.names.share(self.text.take()?);
                        self.string(text)?;
                    }
                    None => break,
                },
                State::Word if is_word(byte) => {
                    let rest = chunk.get(at..).unwrap_or_default();
                    let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                    self.text.push(rest.get(..length).unwrap_or_default());
                    at += length;
                }
                State::Word => self.end_word()?,
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                State::Value | State::ValueOrEnd if byte == b'{' && self.stack.len() == 2 => {
                    if let (Some(cache), Some(trail)) = (&mut cache, self.messages()) {
                        let rest = chunk.get(at..).unwrap_or_default();
                        match trail.begin(rest, at, cache) {
                            Next::Known(length) => {
                                self.state = State::CommaOrEnd;
                                at += length;
                                continue;
                            }
                            Next::Awaited => return Ok(()),
                            Next::Unknown => {}
                        }
                    }
                    self.token(byte)?;
                    at += 1;
                }
                _ => {
                    self.token(byte)?;
                    // A word's first byte is read with the others.
                    at += usize::from(self.state != State::Word);
                    if self.stack.len() == 2 {
                        match (byte, &mut cache) {
                            (b'[', _) => {
                                if let Some(trail) = self.messages() {
                                    trail.restart();
                                }
                            }
                            (b'}', Some(cache)) => {
                                if let Some(trail) = &mut self.trail {
                                    trail.ended(chunk, at, cache);
                                }
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        if let Some(trail) = &mut self.trail {
            trail.chunk_ended(chunk);
        }
        Ok(())
    }

    /// The trail, inside the list of the root's `messages`.
    fn messages(&mut self) -> Option<&mut Trail> {
        match &*self.stack {
            [Open::Dict(_, Some(key)), Open::List(_)] if *key == "messages" => {
                self.trail.as_deref_mut()
            }
            _ => None,
        }
    }

    /// The value, now that all chunks have been fed.
    pub(crate) fn finish(self) -> Result<Json, JsonError> {
        self.finish_chat().map(|(json, _)| json)
    }

    /// The value, without the messages of its trail that are known.
    pub(crate) fn finish_chat(mut self) -> Result<(Json, Trail), JsonError> {
        let held = self.trail.as_mut().map(|trail| trail.release()).unwrap_or_default();
        self.read(&held, None)?;
        if self.state == State::Word {
            self.end_word()?;
        }
        let json = self.root.filter(|_| self.state == State::Nothing).ok_or(JsonError::Syntax)?;
        Ok((json, self.trail.map(|trail| *trail).unwrap_or_default()))
    }

    #[inline]
    fn token(&mut self, byte: u8) -> Result<(), JsonError> {
        match (self.state, byte) {
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => return self.close(byte),
            (State::CommaOrEnd, b']' | b'}') => return self.close(byte),
            (State::CommaOrEnd, b',') => {
                self.state = match self.stack.last() {
                    Some(Open::List(_)) => State::Value,
                    _ => State::Key,
                };
            }
            (State::Key | State::KeyOrEnd, b'"') => self.state = State::Name,
            (State::Colon, b':') => self.state = State::Value,
            (State::Value | State::ValueOrEnd, _) if self.stack.len() > MAX_DEPTH => {
                return Err(JsonError::Depth);
            }
            (State::Value | State::ValueOrEnd, b'"') => self.state = State::String,
            (State::Value | State::ValueOrEnd, b'[') => {
                self.stack.push(Open::List(Vec::new()));
                self.state = State::ValueOrEnd;
            }
            (State::Value | State::ValueOrEnd, b'{') => {
                self.stack.push(Open::Dict(Vec::new(), None));
                self.state = State::KeyOrEnd;
            }
            (State::Value | State::ValueOrEnd, byte) if is_word(byte) => self.state = State::Word,
            _ => return Err(JsonError::Syntax),
        }
        Ok(())
    }

    fn string(&mut self, text: Str) -> Result<(), JsonError> {
        if self.state == State::String {
            return self.value(Json::Str(text));
        }
        let Some(Open::Dict(_, key)) = self.stack.last_mut() else {
            return Err(JsonError::Syntax);
        };
        *key = Some(text);
        self.state = State::Colon;
        Ok(())
    }

    fn close(&mut self, byte: u8) -> Result<(), JsonError> {
        let value = match (self.stack.pop(), byte) {
            (Some(Open::List(items)), b']') => Json::List(items),
            (Some(Open::Dict(entries, _)), b'}') => Json::Dict(Dict::from_entries(entries)),
            _ => return Err(JsonError::Syntax),
        };
        self.value(value)
    }

    #[inline]
    fn value(&mut self, value: Json) -> Result<(), JsonError> {
        self.state = State::CommaOrEnd;
        match self.stack.last_mut() {
            None => {
                self.root = Some(value);
                self.state = State::Nothing;
            }
            Some(Open::List(items)) => items.push(value),
            Some(Open::Dict(entries, key)) => {
                entries.push((key.take().ok_or(JsonError::Syntax)?, value));
            }
        }
        Ok(())
    }

    fn end_word(&mut self) -> Result<(), JsonError> {
        let value = word(self.text.take()?)?;
        self.value(value)
    }
}

/// Whether `byte` may be part of a number or literal.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn word(word: &str) -> Result<Json, JsonError> {
    match word {
        "true" => Ok(Json::Bool(true)),
        "false" => Ok(Json::Bool(false)),
        "null" => Ok(Json::Null),
        "NaN" | "Infinity" | "-Infinity" => Err(JsonError::Unrepresentable),
        _ => number(word),
    }
}

fn number(number: &str) -> Result<Json, JsonError> {
    let bytes = number.as_bytes();
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(bytes);
    if whole == 0 || (whole > 1 && bytes.first() == Some(&b'0')) {
        return Err(JsonError::Syntax);
    }
    let mut rest = bytes.get(whole..).unwrap_or_default();
    if rest.is_empty() {
        return number.parse().map(Json::Int).map_err(|_| JsonError::Unrepresentable);
    }
    if let [b'.', fraction @ ..] = rest {
        let length = digits(fraction);
        if length == 0 {
            return Err(JsonError::Syntax);
        }
        rest = fraction.get(length..).unwrap_or_default();
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let unsigned = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            unsigned => unsigned,
        };
        if unsigned.is_empty() || digits(unsigned) < unsigned.len() {
            return Err(JsonError::Syntax);
        }
        rest = &[];
    }
    if !rest.is_empty() {
        return Err(JsonError::Syntax);
    }
    let value: f64 = number.parse().map_err(|_| JsonError::Syntax)?;
    // 1e999 is Python's inf.
    if value.is_finite() { Ok(Json::Float(value)) } else { Err(JsonError::Unrepresentable) }
}
