//! The messages of a chat's body, named as they are read.
//!
//! A message's name is a hash of its bytes and of the name before it, so it stands for the
//! whole conversation up to there. Where the cache knows a name and what followed it in
//! earlier bodies, as many bytes are hashed instead of read: they are kept as they came, in
//! case that somebody asks what they say. How a body arrives makes no difference; a message
//! that was awaited and is another one is read a chunk later than it could have been.
//!
//! What a value stands for depends on its bytes alone, so a message that is known is as
//! good as one that was read. Names are hashes, see [`crate::cache`] for what that means.

use crate::cache::{Cache, Name};
use std::ops::Range;
use std::sync::Arc;

/// What keeps these names apart from others.
const MESSAGE: u64 = 1 << 36;
const LINK: u64 = 1 << 37;
const BEGINNING: u64 = 1 << 38;
/// So many messages are remembered to have followed one.
const MOST_FOLLOWERS: usize = 8;
/// What a message begins with tells it from others that may follow.
const HEAD: usize = 48;
/// Longer ones are not waited for.
const LONGEST: usize = 1 << 20;

/// The messages of one body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    links: Vec<Link>,
    /// The bytes of known messages.
    known: Arc<Vec<u8>>,
    /// Begins in the chunk at hand, where it is not awaited.
    under_way: Option<usize>,
    /// What came of a message before the chunk at hand.
    held: Vec<u8>,
    /// The length of the message that is expected, while it arrives.
    awaited: Option<usize>,
    /// The next message has turned out to be none that is known.
    is_other: bool,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// It and all before it.
    pub name: Name,
    /// How it may be recognised behind the one before: its length and how it begins.
    pub mark: (u32, u32),
    /// Its bytes in [`Trail::bytes`], where it was not read.
    pub known: Option<Range<usize>>,
}

/// What came of the message that begins at some place.
pub(crate) enum Next {
    /// It is known and has so many bytes.
    Known(usize),
    /// The rest of the chunk is held back.
    Awaited,
    Unknown,
}

/// The name before the first message.
pub(crate) fn beginning(cache: &Cache) -> Name {
    cache.name(BEGINNING, &[])
}

/// The marks of messages that followed one, of what the cache has under its name, and
/// what else is there.
pub(crate) fn followers(words: &[u32]) -> (&[[u32; 2]], &[u32]) {
    let Some((count, rest)) = words.split_first() else { return (&[], &[]) };
    let (marks, rest) = rest.split_at_checked(*count as usize * 2).unwrap_or_default();
    (marks.as_chunks().0, rest)
}

/// The words of a name, with one more follower, and with `rest` where it is given.
pub(crate) fn with_follower(
    words: &[u32],
    follower: Option<(u32, u32)>,
    rest: Option<&[u32]>,
) -> Vec<u32> {
    let (marks, old) = followers(words);
    let rest = rest.unwrap_or(old);
    let follower = follower.map(|(length, head)| [length, head]);
    let others = marks.iter().filter(|mark| Some(**mark) != follower);
    let marks: Vec<[u32; 2]> =
        follower.iter().chain(others).take(MOST_FOLLOWERS).copied().collect();
    let mut words = vec![marks.len() as u32];
    words.extend(marks.as_flattened());
    words.extend(rest);
    words
}

impl Trail {
    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// How many messages were not read.
    pub(crate) fn known_count(&self) -> usize {
        self.links.iter().filter(|link| link.known.is_some()).count()
    }

    /// The bytes of a message that was not read.
    pub(crate) fn known(&self, at: usize) -> Option<&[u8]> {
        self.known.get(self.links.get(at)?.known.clone()?)
    }

    /// The bytes that known messages have their places in.
    pub(crate) fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.known
    }

    /// Another list of messages takes the place of the one so far.
    pub(crate) fn restart(&mut self) {
        *self = Trail::default();
    }

    /// A message begins `chunk`, at `at` of the one at hand.
    pub(crate) fn begin(&mut self, chunk: &[u8], at: usize, cache: &mut Cache) -> Next {
        let is_other = std::mem::take(&mut self.is_other);
        let head = chunk.get(..HEAD).filter(|_| !is_other);
        if let Some(head) = head.map(|head| head_mark(cache, head)) {
            let before = self.last(cache);
            let (mut fitting, mut awaited) = ([0; MOST_FOLLOWERS], 0);
            let (marks, _) = cache.get(before).map_or((&[][..], &[][..]), followers);
            let marks = marks.iter().filter(|mark| mark[1] == head).map(|mark| mark[0] as usize);
            for (length, slot) in marks.zip(&mut fitting) {
                if ends_at(chunk, length) {
                    *slot = length;
                } else if length > chunk.len() && length <= LONGEST {
                    awaited = awaited.max(length);
                }
            }
            for length in fitting.into_iter().filter(|length| *length > 0) {
                let bytes = chunk.get(..length).unwrap_or_default();
                if self.take_known(bytes, chunk.len(), cache) {
                    return Next::Known(length);
                }
            }
            if awaited > 0 {
                self.held.extend_from_slice(chunk);
                self.awaited = Some(awaited);
                return Next::Awaited;
            }
        }
        self.under_way = Some(at);
        Next::Unknown
    }

    /// Takes of `chunk` what is missing of the message that is awaited; says how much, and
    /// gives back all of the message if it turned out to be another one.
    pub(crate) fn await_in(&mut self, chunk: &[u8], cache: &mut Cache) -> Awaited {
        let Some(awaited) = self.awaited else { return Awaited::Nothing };
        let missing = awaited.saturating_sub(self.held.len());
        let Some(piece) = chunk.get(..missing) else {
            self.held.extend_from_slice(chunk);
            return Awaited::More;
        };
        self.held.extend_from_slice(piece);
        self.awaited = None;
        let held = std::mem::take(&mut self.held);
        if self.take_known(&held, held.len(), cache) {
            return Awaited::Known(missing);
        }
        self.is_other = true;
        Awaited::Other(held, missing)
    }

    /// What is held back where the body ended instead.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        match self.awaited.take() {
            Some(_) => std::mem::take(&mut self.held),
            None => Vec::new(),
        }
    }

    /// The message under way has been read up to `end` of `chunk`.
    pub(crate) fn ended(&mut self, chunk: &[u8], end: usize, cache: &Cache) {
        let Some(start) = self.under_way.take() else { return };
        let piece = chunk.get(start..end).unwrap_or_default();
        let link = if self.held.is_empty() {
            self.link(piece, None, cache)
        } else {
            self.held.extend_from_slice(piece);
            let link = self.link(&self.held, None, cache);
            self.held.clear();
            link
        };
        self.links.push(link);
    }

    /// All of `chunk` was read.
    pub(crate) fn chunk_ended(&mut self, chunk: &[u8]) {
        if let Some(start) = &mut self.under_way {
            self.held.extend_from_slice(chunk.get(*start..).unwrap_or_default());
            *start = 0;
        }
    }

    /// Takes a message if it is known; as much as `likely` bytes of such may come.
    fn take_known(&mut self, bytes: &[u8], likely: usize, cache: &mut Cache) -> bool {
        let start = self.known.len();
        let link = self.link(bytes, Some(start..start + bytes.len()), cache);
        let is_known = cache.get(link.name).is_some();
        if is_known {
            let known = Arc::make_mut(&mut self.known);
            if known.capacity() - known.len() < bytes.len() {
                known.reserve_exact(likely);
            }
            known.extend_from_slice(bytes);
            self.links.push(link);
        }
        is_known
    }

    fn link(&self, bytes: &[u8], known: Option<Range<usize>>, cache: &Cache) -> Link {
        let own = cache.name(MESSAGE, bytes).bytes();
        let before = self.last(cache).bytes();
        let name = cache.name(LINK, [before, own].as_flattened());
        let head = bytes.get(..HEAD).map_or(0, |head| head_mark(cache, head));
        Link { name, mark: (u32::try_from(bytes.len()).unwrap_or(0), head), known }
    }

    fn last(&self, cache: &Cache) -> Name {
        self.links.last().map_or_else(|| beginning(cache), |link| link.name)
    }
}

/// What came of the message that is awaited.
pub(crate) enum Awaited {
    Nothing,
    More,
    /// It is the one, and had so many bytes of the chunk.
    Known(usize),
    /// It is not; these are its bytes so far, so many of them the chunk's.
    Other(Vec<u8>, usize),
}

fn head_mark(cache: &Cache, head: &[u8]) -> u32 {
    let [a, b, c, d, ..] = cache.name(MESSAGE, head).bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Whether an object may end and another thing begin at `length` of `chunk`.
fn ends_at(chunk: &[u8], length: usize) -> bool {
    let end = length.checked_sub(1).and_then(|last| chunk.get(last..));
    let Some([b'}', rest @ ..]) = end else { return false };
    rest.first().is_none_or(|byte| b",] \t\r\n".contains(byte))
}
