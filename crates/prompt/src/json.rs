//! JSON as Python's `json.loads` reads it.
//!
//! The engine's own reader decides what a body says: integers of any size stay
//! integers, floats are the nearest double, the last of two equal keys wins at
//! the first one's place. `serde_json` rounds large integers to floats and, by
//! default, the last bit of floats; both would show in a rendered tool schema.
//! What Python reads and Rust's strings or numbers cannot hold (`NaN`, lone
//! surrogates, integers beyond 128 bits) is [`JsonError::Unrepresentable`], apart
//! from what is no JSON at all: tool-call arguments that are no JSON become `{}`.

use std::collections::HashMap;

/// Python's recursion limit ends such bodies too, somewhat later.
const MAX_DEPTH: usize = 128;
/// Beyond this many keys duplicates are found by hashing.
const LINEAR_KEYS: usize = 12;

/// A JSON value; integers and floats are different things, as in Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    List(Vec<Json>),
    Dict(Dict),
}

/// A JSON object: keys are distinct and in the order of their first appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dict(Vec<(String, Json)>);

/// Why text was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Python refuses it too.
    Syntax,
    /// Python reads it; this reader cannot hold it.
    Unrepresentable,
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
}

impl Json {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Json::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_dict(&self) -> Option<&Dict> {
        match self {
            Json::Dict(dict) => Some(dict),
            _ => None,
        }
    }
}

impl Dict {
    pub(crate) const fn new() -> Dict {
        Dict(Vec::new())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of `key`, unless it is `null`.
    pub(crate) fn given(&self, key: &str) -> Option<&Json> {
        self.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Sets `key`: in place where it is, else at the end.
    pub(crate) fn set(&mut self, key: &str, value: Json) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Adds entries whose keys are known to be new; linear, unlike [`Dict::set`].
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = (String, Json)>) {
        self.0.extend(entries);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn from_entries(entries: Vec<(String, Json)>) -> Dict {
        let mut dict = Dict(Vec::with_capacity(entries.len()));
        if entries.len() <= LINEAR_KEYS {
            for (key, value) in entries {
                dict.set(&key, value);
            }
            return dict;
        }
        let mut places: HashMap<String, usize> = HashMap::with_capacity(entries.len());
        for (key, value) in entries {
            match places.get(&key).and_then(|at| dict.0.get_mut(*at)) {
                Some((_, old)) => *old = value,
                None => {
                    places.insert(key.clone(), dict.0.len());
                    dict.0.push((key, value));
                }
            }
        }
        dict
    }
}

impl IntoIterator for Dict {
    type Item = (String, Json);
    type IntoIter = std::vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, Json)> for Dict {
    fn from_iter<I: IntoIterator<Item = (String, Json)>>(entries: I) -> Dict {
        Dict::from_entries(entries.into_iter().collect())
    }
}

/// Reads one JSON value and nothing after it but white space.
pub(crate) fn read(text: &str) -> Result<Json, JsonError> {
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(value) } else { Err(JsonError::Syntax) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(JsonError::Syntax)
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::Depth);
        }
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Json::Str)
            }
            Some(b'{') => {
                self.at += 1;
                self.dict(depth)
            }
            Some(b'[') => {
                self.at += 1;
                self.list(depth)
            }
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'N') if self.rest().starts_with("NaN") => Err(JsonError::Unrepresentable),
            Some(b'I') if self.rest().starts_with("Infinity") => Err(JsonError::Unrepresentable),
            Some(b'-') if self.rest().starts_with("-Infinity") => Err(JsonError::Unrepresentable),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(JsonError::Syntax),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut entries = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Json::Dict(Dict::default()));
        }
        loop {
            self.space();
            if !self.eat(b'"') {
                return Err(JsonError::Syntax);
            }
            let key = self.string()?;
            self.space();
            if !self.eat(b':') {
                return Err(JsonError::Syntax);
            }
            self.space();
            entries.push((key, self.value(depth + 1)?));
            self.space();
            if self.eat(b'}') {
                return Ok(Json::Dict(Dict::from_entries(entries)));
            }
            if !self.eat(b',') {
                return Err(JsonError::Syntax);
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Json::List(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat(b']') {
                return Ok(Json::List(items));
            }
            if !self.eat(b',') {
                return Err(JsonError::Syntax);
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') && self.digits() == 0 {
            return Err(JsonError::Syntax);
        }
        let mut float = false;
        // A fraction or exponent without digits is not part of the number for
        // Python either; what follows then fails as it does there.
        let whole = self.at;
        if self.eat(b'.') {
            if self.digits() == 0 {
                self.at = whole;
            } else {
                float = true;
            }
        }
        let mantissa = self.at;
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            if self.digits() == 0 {
                self.at = mantissa;
            } else {
                float = true;
            }
        }
        let number = self.text.get(start..self.at).unwrap_or("");
        if float {
            let value: f64 = number.parse().map_err(|_| JsonError::Syntax)?;
            // 1e999 is Python's inf.
            return if value.is_finite() {
                Ok(Json::Float(value))
            } else {
                Err(JsonError::Unrepresentable)
            };
        }
        number.parse().map(Json::Int).map_err(|_| JsonError::Unrepresentable)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let run = rest
                .bytes()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .ok_or(JsonError::Syntax)?;
            out.push_str(rest.get(..run).unwrap_or(""));
            self.at += run;
            if self.eat(b'"') {
                return Ok(out);
            }
            if !self.eat(b'\\') {
                return Err(JsonError::Syntax);
            }
            let escape = self.peek().ok_or(JsonError::Syntax)?;
            self.at += 1;
            out.push(match escape {
                b'"' => '"',
                b'\\' => '\\',
                b'/' => '/',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode()?,
                _ => return Err(JsonError::Syntax),
            });
        }
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let high = self.hex4()?;
        if let Some(char) = char::from_u32(high) {
            return Ok(char);
        }
        if high >= 0xdc00 || !self.rest().starts_with("\\u") {
            return Err(JsonError::Unrepresentable);
        }
        self.at += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(JsonError::Unrepresentable);
        }
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            .ok_or(JsonError::Unrepresentable)
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.rest().get(..4).ok_or(JsonError::Syntax)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(JsonError::Syntax);
        }
        let value = u32::from_str_radix(digits, 16).map_err(|_| JsonError::Syntax)?;
        self.at += 4;
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
