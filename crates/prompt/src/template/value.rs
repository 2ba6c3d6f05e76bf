//! JSON as the template engine's values, behaving as Python's dicts and lists.
//!
//! Own objects instead of minijinja's maps for two reasons. Printed, they must
//! look as Python prints them. And in Jinja `schema.items` is the dict's method,
//! not its key "items", while minijinja would give the key: here such an access
//! is an error, so that the request is refused instead of rendered otherwise.

use super::python;
use crate::json::{Dict, Json};
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind};
use std::fmt;
use std::sync::Arc;

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

/// A dict with text keys, in their order.
#[derive(Debug)]
pub(crate) struct PyDict(Vec<(Arc<str>, Value)>);

impl PyDict {
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    fn find(&self, key: &str) -> Option<Value> {
        self.0.iter().find(|(name, _)| **name == *key).map(|(_, value)| value.clone())
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
        let entries: Vec<(Value, Value)> =
            self.0.iter().map(|(key, value)| (Value::from(key.clone()), value.clone())).collect();
        Enumerator::RevKeyValueIter(Box::new(entries.into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::repr(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}

/// A list.
#[derive(Debug)]
pub(crate) struct PyList(Vec<Value>);

impl PyList {
    pub(crate) fn items(&self) -> &[Value] {
        &self.0
    }
}

impl Object for PyList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
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
    Value::from_object(PyDict(entries))
}

/// A list of `items`.
pub(crate) fn list(items: Vec<Value>) -> Value {
    Value::from_object(PyList(items))
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
