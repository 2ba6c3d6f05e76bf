//! A text, segment by segment: looked up where it is known, encoded where it is not.

use super::{Hashed, TOKEN_CAP};
use crate::cache::{Cache, Name};
use crate::model::Source;
use crate::{Encode, Refusal};
use warmpath_blocks::BlockHasher;
use warmpath_tokenizer::{Cursor, Progress, Segment, Step};

/// Shorter text is encoded as fast as it is looked up.
const WORTH_KEEPING: usize = 64;
/// A prefix may end after so many segments even where none of them is long.
const MOST_PENDING: usize = 32;
/// What a segment counts against a slice's budget besides what it encodes.
const SEGMENT_COST: usize = 16;
/// A byte of text that is only hashed costs so many times less than an encoded one.
const HASHED_PER_ENCODED: usize = 32;

/// What keeps the cache's names of this kind of work apart from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) model: u64,
    /// Whether hashes of known prefixes do; else all ids are wanted.
    pub(super) prefixes: bool,
}

#[derive(Debug)]
pub(super) struct Walk {
    source: Source,
    pub(super) hasher: BlockHasher,
    pub(super) reused: u64,
    cursor: Cursor,
    at: usize,
    phase: Phase,
    /// Segments since the last known place, of which `worked` are encoded.
    pending: Vec<Pending>,
    worked: usize,
    progress: Progress,
    /// Where the segment under way has its first id, if it has begun.
    under_way: Option<u64>,
    /// The names of all before `pending`, and of what is in it.
    trail: Vec<u8>,
    /// The name of all before the last known place.
    before: Option<Name>,
    /// Known places, and the names of all before them.
    places: Vec<(usize, Name)>,
    /// The hasher's state at the last known place: tokens, and hashes of each size.
    mark: (u64, Vec<usize>),
    cut: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Start,
    Scan,
    /// Encodes what is pending; the prefix up to there gets this name.
    Encode(Option<Name>),
    /// As before, and then all is done.
    Last,
    Done,
}

#[derive(Debug)]
struct Pending {
    segment: Segment,
    /// Of text worth keeping.
    name: Option<Name>,
}

/// Kinds of names. Models have numbers far below.
const SEGMENT: u64 = 1 << 33;
const FIRST_SEGMENT: u64 = 1 << 34;
const PREFIX: u64 = 1 << 35;

impl Walk {
    pub(super) fn new(source: Source, hasher: BlockHasher) -> Walk {
        Walk {
            source,
            hasher,
            reused: 0,
            cursor: Cursor::default(),
            at: 0,
            phase: Phase::Start,
            pending: Vec::new(),
            worked: 0,
            progress: Progress::default(),
            under_way: None,
            trail: Vec::new(),
            before: None,
            places: Vec::new(),
            mark: (0, Vec::new()),
            cut: false,
        }
    }

    /// Begins at `at` of the text, where what the names of `chain` stand for ends.
    pub(super) fn go_on(&mut self, at: usize, chain: &[Name], cache: &mut Cache, model: u64) {
        let Some(last) = chain.last() else { return };
        self.start(cache, Known { model, prefixes: true });
        for name in chain {
            self.reused += cache.get(*name).map_or(0, |words| resume(&mut self.hasher, words));
        }
        self.at = at;
        self.cursor = Cursor::behind(at);
        self.known_place(*last);
    }

    /// The names of prefixes from `beginning` to `last`, if all of them are known.
    pub(super) fn chain(cache: &mut Cache, last: Name, beginning: Name) -> Option<Vec<Name>> {
        let mut chain = Vec::new();
        let mut name = last;
        while name != beginning {
            chain.push(name);
            name = Name::of_words(*cache.get(name)?.first_chunk()?);
        }
        chain.reverse();
        Some(chain)
    }

    /// Places of the text, and the names of all before them.
    pub(super) fn places(&self) -> &[(usize, Name)] {
        &self.places
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn is_empty(&self) -> bool {
        self.source.text().is_empty()
    }

    /// Goes on for about `budget` bytes, and no further than `most` tokens; says whether
    /// all is done.
    pub(super) fn advance(
        &mut self,
        encoder: &dyn Encode,
        cache: &mut Cache,
        known: Known,
        budget: usize,
        most: u64,
    ) -> Result<bool, Refusal> {
        let mut left = budget.max(1);
        loop {
            match self.phase {
                Phase::Start => self.start(cache, known),
                Phase::Scan
                    if self.hasher.count() >= most && self.at < self.source.text().len() =>
                {
                    self.cut = true;
                    self.phase = Phase::Done;
                }
                Phase::Scan => self.scan(encoder, cache, known, &mut left),
                Phase::Encode(name) => {
                    if self.encode(encoder, cache, known, &mut left)? {
                        self.keep(cache, name);
                        self.phase = Phase::Scan;
                    }
                }
                Phase::Last => {
                    if self.encode(encoder, cache, known, &mut left)? {
                        self.phase = Phase::Done;
                    }
                }
                Phase::Done => return Ok(true),
            }
            if left == 0 && !matches!(self.phase, Phase::Done) {
                return Ok(false);
            }
        }
    }

    /// The result, with the ids that come after the text's.
    pub(super) fn finish(&mut self, suffix: &[u32], most: u64) -> Hashed {
        let mut hasher = std::mem::take(&mut self.hasher);
        if !self.cut {
            hasher.tokens().extend(suffix);
            hasher.settle();
        }
        let count = hasher.count();
        let tokens = count.min(most);
        Hashed {
            tokens,
            hashes: hasher.into_hashes(tokens),
            digest: None,
            cut: (self.cut || tokens < count).then_some(TOKEN_CAP),
            reused_tokens: self.reused.min(tokens),
        }
    }

    fn start(&mut self, cache: &Cache, known: Known) {
        self.phase = Phase::Scan;
        if known.prefixes && !cache.is_off() {
            let beginning = prefix_beginning(&self.hasher, cache, known.model);
            self.trail = beginning.bytes().to_vec();
            self.before = Some(beginning);
        }
        self.hasher.settle();
        self.set_mark();
    }

    /// Takes the next segment, and jumps to its end if that is known.
    fn scan(&mut self, encoder: &dyn Encode, cache: &mut Cache, known: Known, left: &mut usize) {
        let text = self.source.text();
        let Some(segment) = encoder.next_segment(&mut self.cursor, self.at, text) else {
            self.at = text.len();
            self.phase = Phase::Last;
            return;
        };
        let (mut name, mut length) = (None, 0);
        match segment {
            Segment::Added { id, end, .. } => {
                self.trail.push(0);
                self.trail.extend(id.to_le_bytes());
                self.at = end;
            }
            Segment::Text { start, end, first } => {
                let bytes = text.as_bytes().get(start..end).unwrap_or_default();
                length = bytes.len();
                if cache.is_off() {
                } else if length < WORTH_KEEPING {
                    self.trail.push(length as u8 | 0x40 | (u8::from(first) << 7));
                    self.trail.extend(bytes);
                } else {
                    let kind = if first { FIRST_SEGMENT } else { SEGMENT };
                    let own = cache.name(kind | known.model, bytes);
                    self.trail.push(1);
                    self.trail.extend(own.bytes());
                    name = Some(own);
                }
                self.at = end;
            }
        }
        *left = left.saturating_sub(SEGMENT_COST + length / HASHED_PER_ENCODED);
        self.pending.push(Pending { segment, name });
        if length < WORTH_KEEPING && self.pending.len() < MOST_PENDING {
            return;
        }
        if !known.prefixes || cache.is_off() {
            self.trail.clear();
            self.phase = Phase::Encode(None);
            return;
        }
        let prefix = cache.name(PREFIX, &self.trail);
        match cache.get(prefix) {
            Some(words) => {
                let tokens = resume(&mut self.hasher, words);
                self.reused += tokens;
                self.pending.clear();
                self.known_place(prefix);
            }
            None => self.phase = Phase::Encode(Some(prefix)),
        }
    }

    /// Encodes what is pending; says whether all of it is.
    fn encode(
        &mut self,
        encoder: &dyn Encode,
        cache: &mut Cache,
        known: Known,
        left: &mut usize,
    ) -> Result<bool, Refusal> {
        while let Some(Pending { segment, name }) = self.pending.get(self.worked) {
            match *segment {
                Segment::Added { id, .. } => self.hasher.tokens().push(id),
                Segment::Text { start, end, first } => {
                    let text = self.source.text().get(start..end).unwrap_or_default();
                    let begun = self.under_way;
                    if begun.is_none() {
                        if let Some(ids) = name.and_then(|name| cache.get(name)) {
                            self.hasher.tokens().extend(ids);
                            self.reused += ids.len() as u64;
                            self.worked += 1;
                            continue;
                        }
                        self.progress.restart(first);
                    }
                    let from = begun.unwrap_or(self.hasher.count());
                    let ids = self.hasher.tokens();
                    let step = encoder.encode_some(&mut self.progress, text, *left, ids)?;
                    *left = left.saturating_sub(text.len());
                    if step == Step::More {
                        self.under_way = Some(from);
                        *left = 0;
                        return Ok(false);
                    }
                    self.under_way = None;
                    if let Some(name) = *name
                        && cache.was_seen(name)
                    {
                        let length = self.hasher.count().saturating_sub(from);
                        let tail = self.hasher.tail();
                        let from = tail.len().saturating_sub(length as usize);
                        cache.put(name, tail.get(from..).unwrap_or_default());
                    }
                }
            }
            self.worked += 1;
            if *left == 0 {
                break;
            }
        }
        if self.worked < self.pending.len() {
            return Ok(false);
        }
        self.pending.clear();
        self.worked = 0;
        if known.prefixes {
            self.hasher.settle();
        }
        Ok(true)
    }

    /// Keeps what the segments since the last known place added.
    fn keep(&mut self, cache: &mut Cache, name: Option<Name>) {
        let Some(name) = name else { return };
        let (count, lengths) = &self.mark;
        let added = self.hasher.count().saturating_sub(*count);
        let tail = self.hasher.tail();
        let hashes: usize = self.hasher.hashes().iter().map(|(_, hashes)| hashes.len()).sum();
        let known: usize = lengths.iter().sum();
        let before = self.before.map(Name::words).unwrap_or_default();
        let size =
            before.len() + 2 + tail.len() + self.hasher.hashes().len() + 2 * (hashes - known);
        if let Ok(added) = u32::try_from(added)
            && size <= cache.most_words()
        {
            let mut words = Vec::with_capacity(size);
            words.extend(before);
            words.extend([added, tail.len() as u32]);
            words.extend(tail);
            for (at, (_, hashes)) in self.hasher.hashes().iter().enumerate() {
                let known = lengths.get(at).copied().unwrap_or(0);
                let new = hashes.get(known..).unwrap_or_default();
                words.push(new.len() as u32);
                words.extend(new.iter().flat_map(|hash| [*hash as u32, (*hash >> 32) as u32]));
            }
            cache.put(name, &words);
        }
        self.known_place(name);
    }

    /// All before here has this name.
    fn known_place(&mut self, name: Name) {
        self.trail.clear();
        self.trail.extend(name.bytes());
        self.before = Some(name);
        self.places.push((self.at, name));
        self.set_mark();
    }

    fn set_mark(&mut self) {
        let (count, lengths) = &mut self.mark;
        *count = self.hasher.count();
        lengths.clear();
        lengths.extend(self.hasher.hashes().iter().map(|(_, hashes)| hashes.len()));
    }
}

/// The name of what stands before a text: the ids of `hasher`, and what it makes of them.
pub(super) fn prefix_beginning(hasher: &BlockHasher, cache: &Cache, model: u64) -> Name {
    let mut all = hasher.seed().to_le_bytes().to_vec();
    let sizes = hasher.hashes().iter().map(|(size, _)| *size);
    all.extend((hasher.hashes().len() as u64).to_le_bytes());
    all.extend(sizes.flat_map(u32::to_le_bytes));
    all.extend(hasher.tail().iter().flat_map(|id| id.to_le_bytes()));
    cache.name(PREFIX | model, &all)
}

/// Goes on from what [`Walk::keep`] kept; says how many tokens that is.
fn resume(hasher: &mut BlockHasher, words: &[u32]) -> u64 {
    let [_, _, _, _, added, tail, rest @ ..] = words else { return 0 };
    let Some((tail, mut rest)) = rest.split_at_checked(*tail as usize) else { return 0 };
    hasher.resume(u64::from(*added), tail.iter().copied(), |_, hashes| {
        let Some((count, pairs)) = rest.split_first() else { return };
        let Some((pairs, after)) = pairs.split_at_checked(*count as usize * 2) else { return };
        let hash = |pair: &[u32; 2]| u64::from(pair[0]) | u64::from(pair[1]) << 32;
        hashes.extend(pairs.as_chunks().0.iter().map(hash));
        rest = after;
    });
    u64::from(*added)
}
