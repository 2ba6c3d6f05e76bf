//! What one turn of a chat leaves to the next: where its rendering may be gone on from.
//!
//! Under the name of each message (see [`crate::trail`]) the cache keeps what followed it,
//! and, where the template's loop stood before that without having looked further (see
//! [`crate::template::Watch`]): all else that the template saw, by name; the last place in
//! the text before which block hashes are known; the text from there on; the namespaces.
//! A longer conversation begins there. Of the messages before it only their bytes are
//! hashed, and read is what its template still asks for: usually the first message.
//!
//! The place must be one that holds whatever follows: no added token of the tokenizer may
//! begin before it and end behind the text that is the same.

use super::walk::{Walk, prefix_beginning};
use crate::body::{Chat, Each, known};
use crate::cache::{Cache, Name};
use crate::conversation;
use crate::template::{Mark, Watch, value};
use crate::trail::{self, Link};
use crate::{Encode, Model, Refusal};
use minijinja::value::{Value, ValueKind};
use std::sync::Arc;
use warmpath_blocks::BlockHasher;

/// So many of the last messages are looked at for a place to go on from.
const MOST_TRIED: usize = 64;
/// Bytes of text and of namespaces that are kept at most.
const MOST_KEPT: usize = 512;
/// What keeps these names apart from others.
const CONTEXT: u64 = 1 << 39;
/// In the place of what stands before a text that begins in the middle, so that nothing
/// takes its first byte for the prompt's.
const LEAD: &str = " ";

/// A rendering's text, and what is known of it.
pub(super) struct Rendered {
    pub(super) text: String,
    /// Names of prefixes, each of which adds to the one before, up to the text, which
    /// then begins behind [`LEAD`].
    pub(super) chain: Vec<Name>,
    pub(super) turn: Option<Box<Turn>>,
}

/// What is to be kept of a rendering once its prompt is hashed.
#[derive(Debug)]
pub(super) struct Turn {
    context: Name,
    links: Vec<Link>,
    /// The message that the rendering began with.
    begun: usize,
    marks: Vec<Mark>,
}

/// A place that an earlier rendering left.
struct Place {
    messages: usize,
    chain: Vec<Name>,
    text: String,
    saved: Vec<Value>,
}

/// Where the text of a prompt begins that goes on from `chain`.
pub(super) fn first_byte(chain: &[Name]) -> usize {
    if chain.is_empty() { 0 } else { LEAD.len() }
}

/// Renders `chat`, from where an earlier turn of it was, if the cache knows that.
/// `hasher` is new, but for the ids before the text.
pub(super) fn render(
    model: &Model,
    chat: &Chat,
    unix_seconds: u64,
    hasher: &BlockHasher,
    cache: &mut Cache,
) -> Result<Rendered, Refusal> {
    let (template, format) = model.template(chat)?;
    let (links, developer) = (
        chat.trail.links(),
        |each: Each<'_>| matches!(each, Each::Read(message) if message.role == "developer"),
    );
    let plain = template.is_resumable() && !chat.continue_final_message && !cache.is_off();
    if !plain || links.is_empty() || chat.each().any(developer) {
        let text = model.render(chat, unix_seconds, &Arc::default())?;
        return Ok(Rendered { text, chain: Vec::new(), turn: None });
    }
    let beginning = prefix_beginning(hasher, cache, model.number());
    let mut all = beginning.bytes().to_vec();
    chat.write_context(&mut all);
    if template.source().contains("strftime_now") {
        all.extend((unix_seconds / 86_400).to_le_bytes());
    }
    let context = cache.name(CONTEXT, &all);
    let turn = |begun, marks| Some(Box::new(Turn { context, links: links.to_vec(), begun, marks }));
    if let Some(place) = find(links, chat.count(), (context, beginning), cache) {
        let begun = place.messages;
        let watch = Arc::new(Watch::from_mark(begun, place.saved));
        let bytes = chat.trail.bytes();
        let item = |(at, each)| match each {
            Each::Read(message) => conversation::entries(message, *format)
                .map(|entries| value::message(&watch, at, entries)),
            Each::Known(_) => {
                let (format, bytes) = (*format, Arc::clone(bytes));
                let range = links.get(at).and_then(|link| link.known.clone()).unwrap_or_default();
                let make = move || {
                    let message = bytes.get(range.clone()).map(known)?.ok()?;
                    conversation::entries(&message, format).ok()
                };
                let make = Box::new(move || make().unwrap_or_default());
                Ok(value::late_message(&watch, at, make))
            }
        };
        let items = chat.each().enumerate().map(item).collect::<Result<_, Refusal>>()?;
        let variables = model.variables(chat, value::messages(&watch, items))?;
        let text = template.render_watched(variables, unix_seconds, &watch, place.text);
        // Whatever is wrong with it, rendering all of it will say.
        if let Ok(text) = text
            && !watch.is_muted()
        {
            cache.resumed += 1;
            let turn = turn(begun, watch.marks());
            return Ok(Rendered { text, chain: place.chain, turn });
        }
    }
    let watch = Arc::default();
    let text = model.render(chat, unix_seconds, &watch)?;
    Ok(Rendered { text, chain: Vec::new(), turn: turn(0, watch.marks()) })
}

/// The last place before one of `count` messages.
fn find(
    links: &[Link],
    count: usize,
    (context, beginning): (Name, Name),
    cache: &mut Cache,
) -> Option<Place> {
    let last = links.len().min(count.checked_sub(1)?);
    for (at, link) in links.get(..last)?.iter().enumerate().rev().take(MOST_TRIED) {
        let Some(words) = cache.get(link.name) else { continue };
        let (_, rest) = trail::followers(words);
        let Some((own, rest)) = rest.split_first_chunk() else { continue };
        let Some((prefix, rest)) = rest.split_first_chunk() else { continue };
        if Name::of_words(*own) != context {
            continue;
        }
        let (prefix, kept) = (Name::of_words(*prefix), unpacked(rest));
        let Some((text, saved)) = kept.and_then(|kept| read_kept(&kept)) else { continue };
        let Some(chain) = Walk::chain(cache, prefix, beginning) else { continue };
        return Some(Place { messages: at + 1, chain, text, saved });
    }
    None
}

impl Turn {
    /// Keeps what the next turn may begin with. `places` are those of `text` before which
    /// the cache knows block hashes, in order.
    pub(super) fn keep(
        &self,
        text: &str,
        places: &[(usize, Name)],
        encoder: &dyn Encode,
        cache: &mut Cache,
    ) {
        let new = self.marks.iter().filter(|mark| mark.messages > self.begun);
        let kept = new.filter_map(|mark| {
            let before = places.partition_point(|(at, _)| *at < mark.written);
            let (at, name) = places.get(before.checked_sub(1)?)?;
            let rest = text.get(*at..mark.written).filter(|rest| rest.len() < MOST_KEPT)?;
            if !encoder.is_settled(text.get(..mark.written)?, *at) {
                return None;
            }
            let mut words = [self.context.words(), name.words()].as_flattened().to_vec();
            words.extend(packed(&written_kept(rest, &mark.saved)?));
            Some((mark.messages, words))
        });
        let mut kept = kept.peekable();
        if self.begun == 0 && kept.peek().is_none() {
            return;
        }
        let beginning = trail::beginning(cache);
        let names = std::iter::once(beginning).chain(self.links.iter().map(|link| link.name));
        for (messages, name) in names.enumerate() {
            let follower = self.links.get(messages);
            let rest = kept.next_if(|(at, _)| *at == messages).map(|(_, words)| words);
            let own = messages.checked_sub(1).and_then(|at| self.links.get(at));
            let is_new = |link: &Link| link.known.is_none();
            if rest.is_none() && !follower.is_some_and(is_new) && !own.is_some_and(is_new) {
                continue;
            }
            let old = cache.get(name).unwrap_or_default();
            let words = trail::with_follower(old, follower.map(|link| link.mark), rest.as_deref());
            if words != old {
                cache.replace(name, &words);
            }
        }
    }
}

/// Text and values as bytes; none where a value is none that can be kept, or all is large.
fn written_kept(text: &str, saved: &[Value]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    string(&mut out, text);
    for value in saved {
        match value.kind() {
            ValueKind::Undefined => out.push(0),
            ValueKind::None => out.push(1),
            ValueKind::Bool => out.push(2 + u8::from(value.is_true())),
            ValueKind::Number if value.is_integer() => {
                out.push(4);
                out.extend(value.as_i64()?.to_le_bytes());
            }
            ValueKind::String => {
                out.push(5);
                string(&mut out, value.as_str()?);
            }
            _ => return None,
        }
    }
    (out.len() <= MOST_KEPT).then_some(out)
}

fn read_kept(mut bytes: &[u8]) -> Option<(String, Vec<Value>)> {
    fn string<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *bytes = rest;
        std::str::from_utf8(text).ok()
    }
    let text = format!("{LEAD}{}", string(&mut bytes)?);
    let mut saved = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        saved.push(match kind {
            0 => Value::UNDEFINED,
            1 => Value::from(()),
            2 | 3 => Value::from(*kind == 3),
            4 => {
                let (number, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Value::from(i64::from_le_bytes(*number))
            }
            _ => Value::from(string(&mut bytes)?),
        });
    }
    Some((text, saved))
}

/// Bytes in words, and how many they are.
fn packed(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![bytes.len() as u32];
    words.extend(
        bytes
            .chunks(4)
            .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))),
    );
    words
}

fn unpacked(words: &[u32]) -> Option<Vec<u8>> {
    let (count, words) = words.split_first()?;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.truncate(*count as usize);
    Some(bytes)
}
