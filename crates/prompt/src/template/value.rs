//! JSON as the template engine's values, behaving as Python's dicts and lists.
//!
//! Own objects instead of minijinja's maps for two reasons. Printed, they must
//! look as Python prints them. And in Jinja `schema.items` is the dict's method,
//! not its key "items", while minijinja would give the key: here such an access
//! is an error, so that the request is refused instead of rendered otherwise.

use super::python;
use super::watch::Watch;
use crate::json::{Dict, Json};
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

/// What `dict` has as attributes; keys of these names are shadowed by them.
const DICT_METHODS: [&str; 11] = [
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

/// The entries of a dict, in their order.
pub(crate) type Entries = Vec<(Arc<str>, Value)>;

/// A dict with text keys, in their order.
#[derive(Debug)]
pub(crate) struct PyDict {
    entries: OnceLock<Entries>,
    /// Of a message that is watched.
    message: Option<Box<WatchedMessage>>,
}

/// Which message a dict is, and how its entries are made once somebody asks. The watch has
/// the messages, so they must not have it.
struct WatchedMessage {
    watch: Weak<Watch>,
    at: usize,
    make: Option<Make>,
}

/// Makes the entries of a dict.
pub(crate) type Make = Box<dyn Fn() -> Entries + Send + Sync>;

impl fmt::Debug for WatchedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

impl PyDict {
    fn all(&self) -> &Entries {
        let message = self.message.as_deref();
        if let Some(message) = message
            && let Some(watch) = message.watch.upgrade()
        {
            watch.touch(message.at);
        }
        self.entries.get_or_init(|| {
            message.and_then(|message| message.make.as_ref()).map_or(Vec::new(), |make| make())
        })
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.all().iter().map(|(key, value)| (&**key, value))
    }

    fn find(&self, key: &str) -> Option<Value> {
        self.all().iter().find(|(name, _)| **name == *key).map(|(_, value)| value.clone())
    }
}

impl Object for PyDict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if DICT_METHODS.contains(&key) {
            let error = Error::new(
                ErrorKind::InvalidOperation,
                format!("the dict method {key} is used as a value"),
            );
            return Some(Value::from(error));
        }
        self.find(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let entries: Vec<(Value, Value)> = self
            .all()
            .iter()
            .map(|(key, value)| (Value::from(key.clone()), value.clone()))
            .collect();
        Enumerator::RevKeyValueIter(Box::new(entries.into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.all().len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::repr(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}

/// A list, or what of it is left behind some first items.
#[derive(Debug)]
pub(crate) struct PyList {
    items: Arc<[Value]>,
    first: usize,
    /// Of a conversation's messages.
    watch: Option<Weak<Watch>>,
}

impl PyList {
    pub(crate) fn items(&self) -> &[Value] {
        if let Some(watch) = self.watch() {
            watch.end();
        }
        self.items.get(self.first..).unwrap_or_default()
    }

    /// `list[start:]`
    pub(super) fn behind(&self, start: usize) -> PyList {
        let first = self.first.saturating_add(start);
        if let Some(watch) = self.watch() {
            // Of a shorter list nothing would be left.
            if first <= self.items.len() { watch.need(first) } else { watch.end() }
        }
        let first = first.min(self.items.len());
        PyList { items: Arc::clone(&self.items), first, watch: self.watch.clone() }
    }

    fn watch(&self) -> Option<Arc<Watch>> {
        self.watch.as_ref().and_then(Weak::upgrade)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Where the list begins and ends in the one that it is a part of.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn end(&self) -> usize {
        self.items.len()
    }

    /// An item by its place in the list that this is a part of.
    pub(super) fn at(&self, at: usize) -> Option<Value> {
        self.items.get(at).cloned()
    }
}

impl Object for PyList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.first.checked_add(key.as_usize()?)?;
        if let Some(watch) = self.watch() {
            if at < self.items.len() { watch.need(at + 1) } else { watch.end() }
        }
        self.at(at)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items().len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::repr(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}

/// A float that minijinja's `~` would spell otherwise than Python: one with an exponent.
///
/// It prints as Python prints it, and fails where it is calculated with.
#[derive(Debug)]
pub(crate) struct PyFloat(pub f64);

impl Object for PyFloat {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::float(self.0))
    }
}

fn float(number: f64) -> Value {
    match python::float(number).contains('e') {
        true => Value::from_object(PyFloat(number)),
        false => Value::from(number),
    }
}

/// A dict of `entries`, whose keys are distinct.
pub(crate) fn dict(entries: Vec<(Arc<str>, Value)>) -> Value {
    Value::from_object(PyDict { entries: OnceLock::from(entries), message: None })
}

/// Message `at` of a conversation that is watched, by its entries.
pub(crate) fn message(watch: &Arc<Watch>, at: usize, entries: Entries) -> Value {
    let message = WatchedMessage { watch: Arc::downgrade(watch), at, make: None };
    Value::from_object(PyDict { entries: entries.into(), message: Some(Box::new(message)) })
}

/// The same, its entries made by `make` if anybody asks for them.
pub(crate) fn late_message(watch: &Arc<Watch>, at: usize, make: Make) -> Value {
    let message = WatchedMessage { watch: Arc::downgrade(watch), at, make: Some(make) };
    Value::from_object(PyDict { entries: OnceLock::new(), message: Some(Box::new(message)) })
}

/// A conversation of such messages.
pub(crate) fn messages(watch: &Arc<Watch>, items: Vec<Value>) -> Value {
    let watch = Some(Arc::downgrade(watch));
    Value::from_object(PyList { items: items.into(), first: 0, watch })
}

/// A list of `items`.
pub(crate) fn list(items: Vec<Value>) -> Value {
    Value::from_object(PyList { items: items.into(), first: 0, watch: None })
}

/// The value that Python has after reading `json`.
pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Int(number) => match i64::try_from(*number) {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(*number),
        },
        Json::Float(number) => float(*number),
        Json::Str(text) => Value::from(Arc::<str>::from(text.clone())),
        Json::List(items) => list(items.iter().map(from_json).collect()),
        Json::Dict(entries) => dict(from_dict(entries).collect()),
    }
}

/// The entries of `dict` as values.
pub(crate) fn from_dict(dict: &Dict) -> impl Iterator<Item = (Arc<str>, Value)> + '_ {
    dict.entries().iter().map(|(key, value)| (Arc::from(key.clone()), from_json(value)))
}
