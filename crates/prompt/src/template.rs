//! Chat templates, rendered as transformers renders them.
//!
//! Its Jinja environment: blocks trimmed, the `generation` tag, `raise_exception`,
//! `strftime_now` and `tojson` as `json.dumps` without ASCII escapes. Where
//! minijinja and Jinja part ways, the choice is to fail: a template that fails
//! here costs a cache hit, one that renders otherwise would cost wrong hits.

mod builtins;
mod clock;
mod globals;
mod methods;
pub(crate) mod python;
#[cfg(any(test, feature = "library"))]
mod resume;
#[cfg(any(test, feature = "library"))]
mod source;
pub(crate) mod value;
mod watch;

#[cfg(feature = "library")]
pub(crate) use source::marks_generation;
#[cfg(any(test, feature = "library"))]
pub(crate) use source::prepare;
pub(crate) use watch::{Mark, Watch};

use crate::Refusal;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Object, Rest, Value, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Instructions that one rendering may take. Common templates take some 50 for a
/// message, so that this is room for thousands; a loop without end has used them up
/// after some 10 ms in Envoy.
const FUEL: u64 = 165_000;
/// Bytes that one rendering may write; bodies are limited to less.
const MAX_OUTPUT: usize = 16 << 20;
const NAME: &str = "chat";
/// The filter that stands for `[::-1]`.
const REVERSED: &str = "warmpath_reversed";
/// The filter that stands for `+` in what is printed.
const JOINED: &str = "warmpath_joined";

/// One compiled template.
pub(crate) struct Template {
    environment: Environment<'static>,
    source: String,
    resumable: bool,
}

/// What `raise_exception` throws; told apart by its type.
#[derive(Debug)]
struct Raised;

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raised by the template")
    }
}

impl std::error::Error for Raised {}

impl Template {
    /// Compiles `source`; the error says what is wrong with it.
    #[cfg(any(test, feature = "library"))]
    pub(crate) fn new(source: &str) -> Result<Template, String> {
        Template::of_prepared(source, &prepared(source)?)
    }

    /// Compiles what [`prepared`] made of `source`.
    pub(crate) fn of_prepared(source: &str, prepared: &str) -> Result<Template, String> {
        let mut environment = Environment::empty();
        builtins::add(&mut environment);
        let syntax = syntax().map_err(|error| error.to_string())?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(methods::call);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, _, value| {
            match value.as_str() {
                Some(text) => out.write_str(text)?,
                None => match value.downcast_object_ref::<Joined>() {
                    Some(joined) => {
                        let mut texts = joined.0.iter().filter_map(Value::as_str);
                        texts.try_for_each(|text| out.write_str(text))?;
                    }
                    None => out.write_str(&python::repr(value)?)?,
                },
            }
            Ok(())
        });
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", tojson);
        // It breaks lines otherwise than Python's.
        environment.remove_filter("pprint");
        environment.add_filter("string", |value: Value| python::str(&value));
        environment.add_filter("trim", |value: Value, chars: Option<Arc<str>>| {
            let Some(text) = value.as_str() else {
                let text = python::str(&value)?;
                return Ok(methods::strip(&text, chars.as_deref(), true, true).into());
            };
            let stripped = methods::strip(text, chars.as_deref(), true, true);
            // Most content has nothing to strip, and is not copied then.
            Ok::<Value, Error>(match stripped.len() == text.len() {
                true => value,
                false => stripped.into(),
            })
        });
        environment.add_filter("join", join);
        globals::add(&mut environment);
        environment.add_filter(REVERSED, reversed);
        environment.add_filter(JOINED, join_terms);
        environment.add_test("sequence", is_sequence);
        environment.add_test("iterable", is_iterable);
        environment.add_test("number", |value: Value| {
            matches!(value.kind(), ValueKind::Number | ValueKind::Bool) || python::is_float(&value)
        });
        let error = |error: Error| error.to_string();
        environment.add_template_owned(NAME, prepared.to_owned()).map_err(error)?;
        let resumable = prepared.contains(watch::RUN);
        Ok(Template { environment, source: source.to_owned(), resumable })
    }

    /// Whether a rendering of it may tell where it could be gone on from.
    pub(crate) fn is_resumable(&self) -> bool {
        self.resumable
    }

    /// The text as its author wrote it.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Whether plain Jinja, without transformers' functions, fails with `variables`;
    /// nothing where that is not known.
    #[cfg(feature = "library")]
    pub(crate) fn fails_bare(mut self, variables: Vec<(Arc<str>, Value)>) -> Option<bool> {
        self.environment.remove_global("raise_exception");
        let mut variables = variables;
        let watch = Value::from_object(Watch::default());
        variables.push((Arc::from(watch::RUN), watch));
        let context = Value::from_pairs(variables);
        let rendered = self.environment.get_template(NAME).and_then(|it| it.render(context));
        match rendered.map_err(|error| error.kind()) {
            Ok(_) => Some(false),
            Err(ErrorKind::UndefinedError | ErrorKind::UnknownFunction) => Some(true),
            Err(_) => None,
        }
    }

    /// Renders with `variables`; later ones replace earlier ones of the same name.
    #[cfg(any(test, feature = "library"))]
    pub(crate) fn render(
        &self,
        variables: Vec<(Arc<str>, Value)>,
        unix_seconds: u64,
    ) -> Result<String, Refusal> {
        self.render_watched(variables, unix_seconds, &Arc::default(), String::new())
    }

    /// The same, `watch` noting what is asked of the messages that have it; what is
    /// written follows `lead`.
    pub(crate) fn render_watched(
        &self,
        mut variables: Vec<(Arc<str>, Value)>,
        unix_seconds: u64,
        watch: &Arc<Watch>,
        lead: String,
    ) -> Result<String, Refusal> {
        let clock = Arc::clone(watch);
        let now = Value::from_function(move |format: &str| {
            if !clock::is_date(format) {
                clock.end();
            }
            clock::strftime(format, unix_seconds)
        });
        variables.push((Arc::from("strftime_now"), now));
        variables.push((Arc::from(watch::RUN), Value::from_dyn_object(Arc::clone(watch))));
        let context = Value::from_pairs(variables);
        let mut out = Limited { bytes: lead.into_bytes(), watch };
        let template = self.environment.get_template(NAME).map_err(|error| refusal(&error))?;
        template.render_captured_to(context, &mut out).map_err(|error| refusal(&error))?;
        String::from_utf8(out.bytes).map_err(|_| Refusal::Encoding)
    }
}

/// What is compiled in the place of `source`; the error says what is wrong with it.
#[cfg(any(test, feature = "library"))]
pub(crate) fn prepared(source: &str) -> Result<String, String> {
    let prepared = source::join_sums(&prepare(source));
    let resumable = resume::resumable(&prepared);
    // A template that is none shall be one for its own reason.
    let is_sound = |it: &String| Template::of_prepared(source, it).is_ok();
    if let Some(resumable) = resumable.filter(is_sound) {
        return Ok(resumable);
    }
    Template::of_prepared(source, &prepared)?;
    Ok(prepared)
}

/// The syntax of transformers' environment.
pub(crate) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn refusal(error: &Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<Raised>() {
            return Refusal::TemplateRaised;
        }
        let kind = current.downcast_ref::<Error>().map(Error::kind);
        if matches!(kind, Some(ErrorKind::OutOfFuel | ErrorKind::WriteFailure)) {
            return Refusal::TemplateLimit;
        }
        cause = current.source();
    }
    // The detail may quote the prompt; the kind does not.
    let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
    Refusal::Template(format!("{}{line}", error.kind()))
}

fn raise_exception(_message: Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised))
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(value: Value, options: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    type Options = (Option<Value>, Option<Value>, Option<Value>, Option<Value>);
    let (ensure_ascii, indent, separators, sort_keys): Options = from_args(&options)?;
    let argument = |positional: Option<Value>, name| -> Result<Option<Value>, Error> {
        let given = match positional {
            None => kwargs.get::<Option<Value>>(name)?,
            given => given,
        };
        Ok(given.filter(|value| !value.is_none()))
    };
    let truth = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = truth(argument(ensure_ascii, "ensure_ascii")?);
    let sort_keys = truth(argument(sort_keys, "sort_keys")?);
    let indent = match argument(indent, "indent")? {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        }),
    };
    let (item_separator, key_separator) = match argument(separators, "separators")? {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(pair) => {
            (python::str(&pair.get_item_by_index(0)?)?, python::str(&pair.get_item_by_index(1)?)?)
        }
    };
    kwargs.assert_all_used()?;
    let layout = python::Layout { indent, item_separator, key_separator, sort_keys, ensure_ascii };
    python::dumps(&value, &layout)
}

fn join(value: Value, separator: Option<Value>) -> Result<String, Error> {
    let separator = separator.map(|value| python::str(&value)).transpose()?.unwrap_or_default();
    let mut joined = String::new();
    for (at, item) in value.try_iter()?.checked().enumerate() {
        joined.push_str(if at > 0 { &separator } else { "" });
        joined.push_str(&python::str(&item?)?);
    }
    Ok(joined)
}

/// A sum of texts that is about to be printed.
#[derive(Debug)]
struct Joined(Vec<Value>);

impl Object for Joined {}

/// `first + second + …`, from the left.
fn join_terms(state: &State<'_, '_>, first: Value, others: Rest<Value>) -> Result<Value, Error> {
    if first.as_str().is_some() && others.iter().all(|term| term.as_str().is_some()) {
        return Ok(Value::from_object(Joined(std::iter::once(first).chain(others.0).collect())));
    }
    let add = state.env().compile_expression("a + b")?;
    others
        .0
        .into_iter()
        .try_fold(first, |sum, term| add.eval(Value::from_pairs([("a", sum), ("b", term)])))
}

/// `value[::-1]`.
fn reversed(value: Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => Ok(Value::from(text.chars().rev().collect::<String>())),
        None => {
            let mut items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
            items.reverse();
            Ok(value::list(items))
        }
    }
}

fn is_sequence(value: Value) -> Result<bool, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined => Ok(true),
        // Slices are lists in Python, what filters return are generators; here
        // both are this.
        ValueKind::Iterable => {
            Err(Error::new(ErrorKind::InvalidOperation, "a test of a slice or a generator"))
        }
        _ => Ok(false),
    }
}

fn is_iterable(value: Value) -> Result<bool, Error> {
    if value.kind() == ValueKind::Iterable { Ok(true) } else { is_sequence(value) }
}

struct Limited<'w> {
    bytes: Vec<u8>,
    watch: &'w Watch,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.is_muted() {
            return Ok(bytes.len());
        }
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        self.watch.wrote(self.bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
