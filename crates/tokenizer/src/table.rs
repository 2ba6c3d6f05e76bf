//! The table: one flat little-endian file, used in place.
//!
//! Layout: magic, format version, checksum, then a directory of `(offset, length)`
//! per section, then the sections. [`Table::from_bytes`] checks the checksum and that
//! every section lies inside the file; that is all the work there is. Content that
//! lies (a forged checksum over nonsense) can give wrong ids, never a panic: every
//! read below is a checked one and every loop is bounded by the input or the table.
//!
//! Rejected: a serialised structure (serde, rkyv) — it parses, or needs alignment and
//! `unsafe`; separate allocations per section — the filter receives one buffer, and a
//! copy of it would double the memory of each Envoy worker.

use std::ops::Range;

use crate::added::Added;
use crate::charmap::CharMap;
use crate::merge::Merges;
use crate::split::Splitter;
use crate::vocab::Vocab;

/// Name and version of the table format; a table is readable only by the code that
/// knows this very string.
pub const FORMAT: &str = "warmpath-table-3";

pub(crate) const MAGIC: [u8; 8] = *b"WPTABLE\0";
pub(crate) const VERSION: u32 = 3;
/// Magic, version, section count, checksum.
pub(crate) const HEADER: usize = 24;
/// Where the checksummed part begins.
pub(crate) const CHECKED_FROM: usize = 24;
pub(crate) const MAX_STAGES: usize = 8;

/// The sections, in directory order. Stage `k` adds two more behind [`Section::Stages`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum Section {
    /// [`Meta`] as words.
    Meta = 0,
    /// 256 ids: of every byte, or of its fallback token.
    Bytes,
    /// Tokens of up to 12 bytes, 16 bytes a slot.
    Short,
    /// Longer tokens, 12 bytes a slot.
    Long,
    /// The longer tokens' bytes, each behind its length (u16).
    Pool,
    /// Merges that fire, 8 bytes a slot.
    Merges,
    /// Merge rank → merged id; empty where the rank is that id.
    Merged,
    /// Bits of pairs that may merge.
    Filter,
    /// Of two bytes in a row, 8 bytes each, by both: see `merge`; empty for models on
    /// characters.
    Pairs,
    /// Added tokens found in the text as it came.
    AddedRaw,
    /// Added tokens found in the normalized text.
    AddedNormalized,
    /// Characters of `\w`; empty unless an added token is `single_word`.
    Word,
    /// Characters that NFC may change or move; empty without NFC.
    Nfc,
    /// Text put before each segment by a normalizer.
    Prepend,
    /// First of the pre-tokenizer's automata.
    Stages,
}

pub(crate) const SECTIONS: usize = Section::Stages as usize + 2 * MAX_STAGES;

/// Why bytes are not a usable table.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Too short, or other magic bytes.
    #[error("not a tokenizer table: compile it from tokenizer.json with this release")]
    NotATable,
    /// Written by another release.
    #[error(
        "tokenizer table has format version {found}, this release reads {VERSION}: compile it again"
    )]
    Version {
        /// The version that the file names.
        found: u32,
    },
    /// The content changed since it was written.
    #[error("tokenizer table is damaged (checksum differs): fetch or compile it again")]
    Checksum,
    /// The checksum holds and yet a part is not what it must be.
    #[error("tokenizer table has a broken section {0}: compile it again")]
    Section(usize),
}

/// How text becomes the text that the model sees; the model's own switches.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Meta {
    /// See the `FLAG_` constants.
    pub(crate) flags: u32,
    /// Bytes of the longest token that a lookup can hit.
    pub(crate) longest: u32,
    pub(crate) stages: u32,
}

/// Normalizer: NFC.
pub(crate) const FLAG_NFC: u32 = 1;
/// Normalizer: every space becomes `▁`.
pub(crate) const FLAG_SPACE: u32 = 1 << 1;
/// Pre-tokenizer: every space becomes `▁` (Metaspace).
pub(crate) const FLAG_META_SPACE: u32 = 1 << 2;
/// Metaspace puts `▁` before each segment that lacks it…
pub(crate) const FLAG_META_ALWAYS: u32 = 1 << 3;
/// …or only before the text's first.
pub(crate) const FLAG_META_FIRST: u32 = 1 << 4;
/// Symbols are characters with byte fallback, not bytes.
pub(crate) const FLAG_CHARS: u32 = 1 << 5;
/// Pieces begin before each run of `▁`.
pub(crate) const FLAG_CUT_RUNS: u32 = 1 << 6;
/// Pieces begin before each `▁`.
pub(crate) const FLAG_CUT_EACH: u32 = 1 << 7;
/// Byte level puts a space before each segment that lacks it.
pub(crate) const FLAG_PREFIX_SPACE: u32 = 1 << 8;

/// A compiled tokenizer, held as the bytes it came in.
#[derive(Clone, Debug)]
pub struct Table {
    bytes: Vec<u8>,
    sections: [(u32, u32); SECTIONS],
    meta: Meta,
}

impl Table {
    /// Takes a table's bytes into use.
    ///
    /// # Errors
    /// [`TableError`] if they are not a table of this format, or damaged.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, TableError> {
        check_head(&bytes)?;
        let word = |at| read_u32(&bytes, at).ok_or(TableError::NotATable);
        let checked = bytes.get(CHECKED_FROM..).ok_or(TableError::NotATable)?;
        let sum = xxhash_rust::xxh3::xxh3_64(checked);
        if u64::from(word(16)?) | u64::from(word(20)?) << 32 != sum {
            return Err(TableError::Checksum);
        }
        Self::from_hashed_bytes(bytes)
    }

    /// Takes a table's bytes into use that were found to have the hash which they are
    /// stored under. Its own checksum, longer to compute than all the rest here takes,
    /// is left out.
    ///
    /// # Errors
    /// [`TableError`] if they are not a table of this format.
    pub fn from_hashed_bytes(bytes: Vec<u8>) -> Result<Self, TableError> {
        check_head(&bytes)?;
        let word = |at| read_u32(&bytes, at).ok_or(TableError::NotATable);
        let mut sections = [(0, 0); SECTIONS];
        for (i, section) in sections.iter_mut().enumerate() {
            let (offset, length) = (word(HEADER + 8 * i)?, word(HEADER + 8 * i + 4)?);
            let end = offset.checked_add(length).ok_or(TableError::Section(i))?;
            if end as usize > bytes.len() {
                return Err(TableError::Section(i));
            }
            *section = (offset, length);
        }
        let mut table = Table { bytes, sections, meta: Meta::default() };
        table.meta = table.read_meta().ok_or(TableError::Section(Section::Meta as usize))?;
        Ok(table)
    }

    /// The bytes that the table was made from: what to store and to hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn read_meta(&self) -> Option<Meta> {
        let words = self.section(Section::Meta as usize);
        let meta = Meta {
            flags: read_u32(words, 0)?,
            longest: read_u32(words, 4)?,
            stages: read_u32(words, 8)?,
        };
        (meta.stages as usize <= MAX_STAGES).then_some(meta)
    }

    fn section(&self, index: usize) -> &[u8] {
        let (offset, length) = self.sections.get(index).copied().unwrap_or_default();
        let range: Range<usize> =
            offset as usize..(offset as usize).saturating_add(length as usize);
        self.bytes.get(range).unwrap_or_default()
    }

    fn part(&self, section: Section) -> &[u8] {
        self.section(section as usize)
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.meta.flags & flag != 0
    }

    pub(crate) fn raw(&self) -> Added<'_> {
        Added::new(self.part(Section::AddedRaw))
    }

    pub(crate) fn word(&self) -> CharMap<'_> {
        CharMap::new(self.part(Section::Word))
    }

    /// Typed views of all sections: made once per call to encode, a few dozen loads.
    pub(crate) fn view(&self) -> View<'_> {
        let mut stages = [Splitter::EMPTY; MAX_STAGES];
        for (k, stage) in stages.iter_mut().enumerate() {
            let first = Section::Stages as usize + 2 * k;
            *stage = Splitter::new(self.section(first), self.section(first + 1));
        }
        View {
            meta: self.meta,
            bytes: self.part(Section::Bytes).as_chunks().0,
            vocab: Vocab::new(
                self.part(Section::Short),
                self.part(Section::Long),
                self.part(Section::Pool),
                self.meta.longest,
            ),
            merges: Merges::new(
                self.part(Section::Merges),
                self.part(Section::Merged),
                self.part(Section::Filter),
                self.part(Section::Pairs),
            ),
            normalized: Added::new(self.part(Section::AddedNormalized)),
            word: self.word(),
            nfc: CharMap::new(self.part(Section::Nfc)),
            prepend: self.part(Section::Prepend),
            stages,
        }
    }
}

fn check_head(bytes: &[u8]) -> Result<(), TableError> {
    if bytes.get(..8) != Some(&MAGIC[..]) {
        return Err(TableError::NotATable);
    }
    let word = |at| read_u32(bytes, at).ok_or(TableError::NotATable);
    let found = word(8)?;
    if found != VERSION {
        return Err(TableError::Version { found });
    }
    if word(12)? as usize != SECTIONS {
        return Err(TableError::NotATable);
    }
    Ok(())
}

/// A table's sections, typed.
pub(crate) struct View<'t> {
    pub(crate) meta: Meta,
    pub(crate) bytes: &'t [[u8; 4]],
    pub(crate) vocab: Vocab<'t>,
    pub(crate) merges: Merges<'t>,
    pub(crate) normalized: Added<'t>,
    pub(crate) word: CharMap<'t>,
    pub(crate) nfc: CharMap<'t>,
    pub(crate) prepend: &'t [u8],
    pub(crate) stages: [Splitter<'t>; MAX_STAGES],
}

impl View<'_> {
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.meta.flags & flag != 0
    }

    /// The id of one byte: its own token, or its fallback token.
    #[inline]
    pub(crate) fn byte_id(&self, byte: u8) -> u32 {
        self.bytes.get(usize::from(byte)).map_or(0, |id| u32::from_le_bytes(*id))
    }
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let chunk = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*chunk))
}
