//! Jinja's helpers that minijinja lacks: joiners, cyclers, and a few filters and tests.

use super::{methods, python};
use minijinja::value::{Object, ObjectRepr, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Adds them to `environment`.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_function("joiner", |separator: Option<Arc<str>>| {
        let separator = separator.unwrap_or_else(|| Arc::from(", "));
        Value::from_object(Joiner { separator, used: AtomicBool::new(false) })
    });
    environment.add_function("cycler", cycler);
    environment.add_filter("center", |value: Value, width: Option<usize>| {
        methods::pad(&python::str(&value)?, "center", width.unwrap_or(80), None)
    });
    environment.add_filter("wordcount", wordcount);
    environment.add_test("callable", is_callable);
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Gives nothing when first called, then its separator.
#[derive(Debug)]
struct Joiner {
    separator: Arc<str>,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        let used = self.used.swap(true, Ordering::Relaxed);
        Ok(Value::from(if used { self.separator.clone() } else { Arc::from("") }))
    }
}

/// Gives its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    match items.is_empty() {
        true => Err(invalid("a cycler of nothing")),
        false => Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) })),
    }
}

impl Cycler {
    fn current(&self) -> Value {
        let at = self.at.load(Ordering::Relaxed) % self.items.len().max(1);
        self.items.get(at).cloned().unwrap_or_default()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        (key == "current").then(|| self.current())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let () = from_args(args)?;
        match method {
            "next" => {
                let item = self.current();
                self.at.fetch_add(1, Ordering::Relaxed);
                Ok(item)
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// Runs of letters, digits and underscores.
fn wordcount(value: Value) -> Result<usize, Error> {
    let text = python::str(&value)?;
    if !text.is_ascii() {
        return Err(invalid("words beyond ASCII are not reproduced"));
    }
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    Ok(text.split(|char| !is_word(char)).filter(|word| !word.is_empty()).count())
}

/// Functions, macros and their like; whatever else there is can not be called.
fn is_callable(value: Value) -> Result<bool, Error> {
    match value.kind() {
        ValueKind::Plain => Ok(!python::is_float(&value)),
        ValueKind::Undefined => Err(invalid("whether undefined can be called")),
        _ => Ok(false),
    }
}
