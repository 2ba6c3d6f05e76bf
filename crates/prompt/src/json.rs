//! JSON as Python's `json.loads` reads it.
//!
//! The engine's own reader decides what a body says: integers of any size stay
//! integers, floats are the nearest double, the last of two equal keys wins at
//! the first one's place. `serde_json` rounds large integers to floats and, by
//! default, the last bit of floats; both would show in a rendered tool schema.
//! What Python reads and Rust's strings or numbers cannot hold (`NaN`, lone
//! surrogates, integers beyond 128 bits) is [`JsonError::Unrepresentable`], apart
//! from what is no JSON at all: tool-call arguments that are no JSON become `{}`.

mod names;
mod reader;
mod scan;
mod string;
mod text;

pub(crate) use reader::Reader;
pub(crate) use string::Str;

use std::collections::HashMap;

/// Beyond this many keys duplicates are found by hashing.
const LINEAR_KEYS: usize = 12;

/// A JSON value; integers and floats are different things, as in Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Str),
    List(Vec<Json>),
    Dict(Dict),
}

/// A JSON object: keys are distinct and in the order of their first appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dict(Vec<(Str, Json)>);

/// Why text was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Python refuses it too.
    Syntax,
    /// Python reads it; this reader cannot hold it.
    Unrepresentable,
    /// Nested too deeply.
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

impl Json {
    /// Appends bytes that no other value has.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        fn sized(out: &mut Vec<u8>, kind: u8, size: usize) {
            out.push(kind);
            out.extend((size as u64).to_le_bytes());
        }
        match self {
            Json::Null => out.push(0),
            Json::Bool(flag) => out.push(1 + u8::from(*flag)),
            Json::Int(number) => {
                out.push(3);
                out.extend(number.to_le_bytes());
            }
            Json::Float(number) => {
                out.push(4);
                out.extend(number.to_le_bytes());
            }
            Json::Str(text) => {
                sized(out, 5, text.len());
                out.extend(text.as_bytes());
            }
            Json::List(items) => {
                sized(out, 6, items.len());
                items.iter().for_each(|item| item.write(out));
            }
            Json::Dict(dict) => {
                sized(out, 7, dict.0.len());
                for (key, value) in &dict.0 {
                    sized(out, 5, key.len());
                    out.extend(key.as_bytes());
                    value.write(out);
                }
            }
        }
    }
}

impl Dict {
    pub(crate) const fn new() -> Dict {
        Dict(Vec::new())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|(name, _)| **name == *key).map(|(_, value)| value)
    }

    /// The value of `key`, unless it is `null`.
    pub(crate) fn given(&self, key: &str) -> Option<&Json> {
        self.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(name, _)| **name == *key)?;
        Some(self.0.remove(at).1)
    }

    /// Sets `key`: in place where it is, else at the end.
    pub(crate) fn set(&mut self, key: &str, value: Json) {
        match self.0.iter_mut().find(|(name, _)| **name == *key) {
            Some((_, old)) => *old = value,
            None => self.0.push((Str::from(key), value)),
        }
    }

    /// Adds entries whose keys are known to be new; linear, unlike [`Dict::set`].
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = (Str, Json)>) {
        self.0.extend(entries);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(crate) fn entries(&self) -> &[(Str, Json)] {
        &self.0
    }

    fn from_entries(mut entries: Vec<(Str, Json)>) -> Dict {
        if entries.len() <= LINEAR_KEYS {
            let mut at = 1;
            while let Some(((key, value), before)) =
                entries.get_mut(..=at).and_then(|entries| entries.split_last_mut())
            {
                match before.iter_mut().find(|(name, _)| name == key) {
                    Some((_, old)) => {
                        std::mem::swap(old, value);
                        entries.remove(at);
                    }
                    None => at += 1,
                }
            }
            return Dict(entries);
        }
        let mut dict = Dict(Vec::with_capacity(entries.len()));
        let mut places: HashMap<Str, usize> = HashMap::with_capacity(entries.len());
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
    type Item = (Str, Json);
    type IntoIter = std::vec::IntoIter<(Str, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(Str, Json)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Str, Json)>>(entries: I) -> Dict {
        Dict::from_entries(entries.into_iter().collect())
    }
}

/// Reads one JSON value and nothing after it but white space.
pub(crate) fn read(text: &str) -> Result<Json, JsonError> {
    let mut reader = Reader::default();
    reader.feed(text.as_bytes())?;
    reader.finish()
}

#[cfg(test)]
mod tests;
