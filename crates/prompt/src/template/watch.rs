//! What a rendering asked about the conversation, and where it may be gone on from.
//!
//! A rendering is a function of the answers that it got. The messages are handed to the
//! template as objects that note what was asked of them: which were looked at, how many
//! had to be there, whether their end showed. Where the loop over them reaches a message
//! and nothing before depended on that one or on what follows, a longer conversation of
//! the same messages has the same text so far, and a rendering of it may begin there: it
//! runs what stands before the loop anew, without writing, sets the namespaces to what
//! they were, and lets the loop begin with that message.
//!
//! Rejected: keeping the engine's own state, which it does not hand out.

use super::value::PyList;
use minijinja::value::{Object, Value};
use minijinja::{Error, ErrorKind, State};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

/// The variable that a template of [`super::resume`] calls.
pub(super) const RUN: &str = "warmpath_run";

/// One rendering, watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The message that the loop begins with, and the namespaces' values there.
    begin: Option<(usize, Vec<Value>)>,
    /// One more than the last message that was looked at.
    touched: AtomicUsize,
    /// How many messages had to be there.
    needed: AtomicUsize,
    /// The number of messages, or that there are no more, showed.
    ended: AtomicBool,
    written: AtomicUsize,
    muted: AtomicBool,
    /// The list that the loop is over, from its first iteration on.
    list: OnceLock<Arc<PyList>>,
    /// The message of the next iteration.
    next: AtomicUsize,
    marks: Mutex<Vec<Mark>>,
}

/// A place that a longer conversation may be rendered from.
#[derive(Debug)]
pub(crate) struct Mark {
    /// The messages that are rendered before it.
    pub messages: usize,
    /// Bytes written before it.
    pub written: usize,
    /// Values of the template's namespaces.
    pub saved: Vec<Value>,
}

impl Watch {
    /// Watches a rendering that begins with message `begin`, behind a [`Mark`] that had
    /// `saved`.
    pub(crate) fn from_mark(begin: usize, saved: Vec<Value>) -> Watch {
        Watch { begin: Some((begin, saved)), muted: AtomicBool::new(true), ..Watch::default() }
    }

    /// A message was looked at.
    pub(super) fn touch(&self, message: usize) {
        self.touched.fetch_max(message + 1, Relaxed);
        self.need(message + 1);
    }

    /// So many messages had to be there.
    pub(super) fn need(&self, count: usize) {
        self.needed.fetch_max(count, Relaxed);
    }

    /// The conversation's end showed, or something else that is not in its messages.
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    /// Nothing is written yet.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.load(Relaxed)
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.store(bytes, Relaxed);
    }

    /// The places found, in order; whether the loop was reached at all.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        self.marks.lock().map(|mut marks| std::mem::take(&mut *marks)).unwrap_or_default()
    }

    fn from(&self, state: &State<'_, '_>, value: &Value, start: &Value) -> Result<Value, Error> {
        if let (Some(list), Some(start)) = (value.downcast_object::<PyList>(), start.as_usize()) {
            return Ok(Value::from_object(list.behind(start)));
        }
        let slice = state.env().compile_expression("value[start:]")?;
        slice.eval(Value::from_pairs([("value", value.clone()), ("start", start.clone())]))
    }

    fn rest(&self, value: &Value) -> Result<Value, Error> {
        let begin = self.begin.as_ref().map(|(begin, _)| *begin);
        let lost = || Error::new(ErrorKind::InvalidOperation, "another way through the template");
        let list = value.downcast_object::<PyList>().filter(|list| list.is_watched());
        let Some(list) = list.filter(|_| self.list.get().is_none()) else {
            self.end();
            return if begin.is_some() { Err(lost()) } else { Ok(value.clone()) };
        };
        let first = begin.unwrap_or(list.first());
        if first < list.first() {
            return Err(lost());
        }
        self.muted.store(false, Relaxed);
        self.next.store(first, Relaxed);
        let looped = Arc::clone(&list);
        if self.list.set(list).is_err() {
            return Err(lost());
        }
        Ok(Value::make_iterable(move || {
            let list = Arc::clone(&looped);
            (first..list.end()).map(move |at| list.at(at).unwrap_or_default())
        }))
    }

    fn step(self: &Arc<Self>, own: &Value, saved: &[Value]) -> Value {
        let Some(list) = self.list.get() else { return own.clone() };
        let at = self.next.fetch_add(1, Relaxed);
        let settled = !self.ended.load(Relaxed)
            && self.touched.load(Relaxed) <= at
            && self.needed.load(Relaxed) <= at + 1;
        if settled
            && at > 0
            && let Ok(mut marks) = self.marks.lock()
        {
            let written = self.written.load(Relaxed);
            marks.push(Mark { messages: at, written, saved: saved.to_vec() });
        }
        Value::from_object(Loop { watch: Arc::clone(self), list: Arc::clone(list), at })
    }
}

impl Object for Watch {
    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        match (method, arguments) {
            ("from", [value, start]) => self.from(state, value, start),
            ("rest", [value]) => self.rest(value),
            ("saved", [at, value]) => {
                let saved = self.begin.as_ref().zip(at.as_usize());
                let saved = saved.and_then(|((_, saved), at)| saved.get(at));
                Ok(saved.unwrap_or(value).clone())
            }
            ("step", [own, saved @ ..]) => Ok(self.step(own, saved)),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// The template's `loop` over the messages, whichever of them it began with.
#[derive(Debug)]
struct Loop {
    watch: Arc<Watch>,
    list: Arc<PyList>,
    at: usize,
}

/// What a template may ask of it.
#[cfg(any(test, feature = "library"))]
pub(super) const LOOP_NAMES: [&str; 9] =
    ["index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem"];

impl Object for Loop {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let (index, left) = (self.at - self.list.first(), self.list.end() - self.at);
        let neighbour = |at: Option<usize>| match at.and_then(|at| self.list.at(at)) {
            Some(item) => item,
            None => Value::UNDEFINED,
        };
        let end = |value: usize| {
            self.watch.end();
            Value::from(value)
        };
        Some(match key {
            "index0" => Value::from(index),
            "index" => Value::from(index + 1),
            "first" => Value::from(index == 0),
            "last" if left > 1 => {
                self.watch.need(self.at + 2);
                Value::from(false)
            }
            "last" => {
                self.watch.end();
                Value::from(true)
            }
            "length" => end(index + left),
            "revindex" => end(left),
            "revindex0" => end(left.saturating_sub(1)),
            "previtem" => neighbour(self.at.checked_sub(1).filter(|_| index > 0)),
            "nextitem" => {
                if left <= 1 {
                    self.watch.end();
                }
                neighbour(Some(self.at + 1))
            }
            _ => return None,
        })
    }
}
