//! Short strings that come again: keys, roles, types.
//!
//! Half of the strings of a body with many messages are the same few words. Each is
//! allocated once and shared.

use super::Str;

/// Longer strings are content.
const LONGEST: usize = 24;
const PLACES: usize = 64;

/// Strings seen lately, in places that their length and ends give.
#[derive(Debug)]
pub(super) struct Names(Vec<Option<Str>>);

impl Default for Names {
    fn default() -> Names {
        Names(vec![None; PLACES])
    }
}

impl Names {
    /// `text`, shared with an earlier equal one where that is still known.
    #[inline]
    pub(super) fn share(&mut self, text: &str) -> Str {
        let bytes = text.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return Str::from("");
        };
        if bytes.len() > LONGEST {
            return Str::from(text);
        }
        let place = usize::from(*first) ^ (usize::from(*last) << 1) ^ (bytes.len() << 3);
        let Some(place) = self.0.get_mut(place % PLACES) else { return Str::from(text) };
        match place {
            Some(known) if **known == *text => known.clone(),
            other => other.insert(Str::from(text)).clone(),
        }
    }
}
