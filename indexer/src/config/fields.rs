//! Reads the fields of one mapping and notes everything that is wrong with it.

use serde_json::{Map, Value};

/// One mapping of the tree, read field by field.
///
/// The fields that are asked for are the ones that exist: [`Fields::finish`]
/// reports all others.
pub(super) struct Fields<'t, 'e> {
    path: String,
    map: Option<&'t Map<String, Value>>,
    known: Vec<&'static str>,
    errors: &'e mut Vec<String>,
}

impl<'t, 'e> Fields<'t, 'e> {
    /// The mapping at `path`, empty for the root; an absent value is empty.
    pub(super) fn of(value: &'t Value, path: &str, errors: &'e mut Vec<String>) -> Self {
        let map = value.as_object();
        if map.is_none() && !value.is_null() {
            let place = if path.is_empty() { "the configuration" } else { path };
            errors.push(format!("{place}: expected a mapping, found {}", kind(value)));
        }
        Self { path: path.to_owned(), map, known: Vec::new(), errors }
    }

    /// The value of a field; null is as good as absent.
    fn get(&mut self, name: &'static str) -> Option<&'t Value> {
        self.known.push(name);
        self.map.and_then(|map| map.get(name)).filter(|value| !value.is_null())
    }

    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes an error at a field.
    pub(super) fn error(&mut self, name: &str, message: impl std::fmt::Display) {
        let path = self.path(name);
        self.errors.push(format!("{path}: {message}"));
    }

    /// Whether the mapping is one at all; if not, that was reported.
    pub(super) fn is_mapping(&self) -> bool {
        self.map.is_some()
    }

    /// A text; a bare number or truth value counts as its spelling (ids).
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            other => {
                self.error(name, format_args!("expected a text, found {}", kind(other)));
                None
            }
        }
    }

    /// A text that must be there and not be empty.
    pub(super) fn required(&mut self, name: &'static str) -> Option<String> {
        let present = self.map.is_some_and(|map| map.get(name).is_some_and(|v| !v.is_null()));
        let text = self.text(name);
        let empty = text.as_deref().is_some_and(str::is_empty);
        if (!present || empty) && self.is_mapping() {
            self.error(name, "is required");
        }
        text
    }

    /// A whole number within bounds, both included.
    pub(super) fn number(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        let value = self.get(name)?;
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(_) => {
                self.error(name, format_args!("expected {least} to {most}, found {value}"));
                None
            }
            None => {
                let found = match value {
                    Value::Number(number) => number.to_string(),
                    other => kind(other).to_owned(),
                };
                self.error(name, format_args!("expected a whole number, found {found}"));
                None
            }
        }
    }

    /// A number from 0 on; not a number is none either.
    pub(super) fn amount(&mut self, name: &'static str) -> Option<f64> {
        let value = self.get(name)?;
        let amount = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        if amount.is_none() {
            self.error(name, format_args!("expected a number from 0 on, found {value}"));
        }
        amount
    }

    /// A truth value.
    pub(super) fn truth(&mut self, name: &'static str) -> Option<bool> {
        let value = self.get(name)?;
        if value.as_bool().is_none() {
            self.error(name, format_args!("expected true or false, found {}", kind(value)));
        }
        value.as_bool()
    }

    /// A text that parses as `T`.
    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.error(name, format_args!("expected {expected}, found {text:?}"));
        }
        parsed
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<String> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.error(name, format_args!("expected a list of texts, found {}", kind(value)));
            return Vec::new();
        };
        list.iter()
            .enumerate()
            .filter_map(|(at, item)| {
                if !item.is_string() {
                    let found = kind(item);
                    self.error(name, format_args!("item {at} is {found}, expected a text"));
                }
                item.as_str().map(str::to_owned)
            })
            .collect()
    }

    /// A list of mappings, each with its path.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<(String, &'t Value)> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.error(name, format_args!("expected a list, found {}", kind(value)));
            return Vec::new();
        };
        let path = self.path(name);
        list.iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect()
    }

    /// A nested mapping, read by `read` where it is there.
    pub(super) fn nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Fields<'_, '_>) -> T,
    ) -> Option<T> {
        let value = self.get(name)?;
        let path = self.path(name);
        Some(read(Fields::of(value, &path, self.errors)))
    }

    /// Reports every field that nothing asked for.
    pub(super) fn finish(self) {
        for name in self.map.into_iter().flat_map(Map::keys) {
            if self.known.iter().any(|known| known == name) {
                continue;
            }
            let path =
                if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            let hint = match nearest(name, &self.known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", self.known.join(", ")),
            };
            self.errors.push(format!("{path}: unknown field; {hint}"));
        }
    }
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
