//! A string of a body: read once, then shared by whatever it becomes part of.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Immutable text; a clone is another reference to it.
#[derive(Clone, Default, Eq, PartialEq, Hash)]
pub(crate) struct Str(Arc<str>);

impl Str {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str(text.into())
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(text.into())
    }
}

impl From<Arc<str>> for Str {
    fn from(text: Arc<str>) -> Str {
        Str(text)
    }
}

impl From<Str> for Arc<str> {
    fn from(text: Str) -> Arc<str> {
        text.0
    }
}

impl From<Str> for String {
    fn from(text: Str) -> String {
        text.0.as_ref().to_owned()
    }
}
