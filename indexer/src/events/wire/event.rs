//! One event: the fields of all layouts, by name or by position.

use warmpath_blocks::media_hash;
use warmpath_radix::EngineHash;

use super::Reject;
use super::cursor::{Cursor, Fault, Head, utf8};
use super::name::of_text;

/// An event, its texts borrowed from the payload.
#[derive(Debug, PartialEq)]
pub(in crate::events) enum Event<'a> {
    Stored(Stored<'a>),
    Removed {
        scope: Scope<'a>,
        hashes: Vec<EngineHash>,
    },
    Cleared,
    /// An event that its sender marked as not for us.
    Ignored,
}

/// Which of an engine's caches an event speaks of.
#[derive(Debug, Default, PartialEq, Clone, Copy)]
pub(in crate::events) struct Scope<'a> {
    pub(in crate::events) medium: Option<&'a str>,
    pub(in crate::events) group: Option<u32>,
    pub(in crate::events) kind: Option<&'a str>,
    pub(in crate::events) locality: Option<&'a str>,
    pub(in crate::events) ownership: Option<&'a str>,
}

/// A chain of stored blocks.
#[derive(Debug, Default, PartialEq)]
pub(in crate::events) struct Stored<'a> {
    pub(in crate::events) scope: Scope<'a>,
    pub(in crate::events) hashes: Vec<EngineHash>,
    pub(in crate::events) parent: Option<EngineHash>,
    pub(in crate::events) tokens: Vec<u32>,
    pub(in crate::events) block_size: u32,
    /// An adapter is named by a number; releases before 0.14 name it by that only.
    pub(in crate::events) has_adapter_id: bool,
    pub(in crate::events) adapter: Option<&'a str>,
    /// The salt where it has a field of its own.
    pub(in crate::events) cache_salt: Option<&'a str>,
    /// What else went into each block's engine hash.
    pub(in crate::events) extra_keys: Vec<Vec<Key<'a>>>,
    /// Hashes of each block's media, where they come ready-made.
    pub(in crate::events) media: Vec<Vec<u64>>,
}

/// One item of a block's extra keys.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(in crate::events) enum Key<'a> {
    /// An adapter's name, a cache salt, or in old releases a media identifier.
    Text(&'a str),
    /// The identifier of a medium that lies in the block.
    Media(&'a str),
    /// Anything else, such as a digest of prompt embeddings; the value's bytes.
    Opaque(&'a [u8]),
}

impl From<Fault> for Reject {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Truncated => Self::Truncated,
            Fault::Kind => Self::Malformed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Type,
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    AdapterId,
    Medium,
    Adapter,
    ExtraKeys,
    Group,
    Kind,
    Locality,
    Ownership,
    CacheSalt,
    Media,
    Other,
}

const NAMES: [(&[u8], Field); 15] = [
    (b"type", Field::Type),
    (b"block_hashes", Field::Hashes),
    (b"parent_block_hash", Field::Parent),
    (b"token_ids", Field::Tokens),
    (b"block_size", Field::BlockSize),
    (b"lora_id", Field::AdapterId),
    (b"medium", Field::Medium),
    (b"lora_name", Field::Adapter),
    (b"extra_keys", Field::ExtraKeys),
    (b"group_idx", Field::Group),
    (b"kv_cache_spec_kind", Field::Kind),
    (b"locality", Field::Locality),
    (b"ownership", Field::Ownership),
    (b"cache_salt", Field::CacheSalt),
    (b"block_mm_infos", Field::Media),
];

/// Behind the tag, in the order in which the releases appended them.
const STORED: [Field; 8] = [
    Field::Hashes,
    Field::Parent,
    Field::Tokens,
    Field::BlockSize,
    Field::AdapterId,
    Field::Medium,
    Field::Adapter,
    Field::ExtraKeys,
];
const REMOVED: [Field; 2] = [Field::Hashes, Field::Medium];
/// The tail that both have; the third is the size of a sliding window.
const TAIL: [Field; 5] =
    [Field::Group, Field::Kind, Field::Other, Field::Locality, Field::Ownership];

/// Elements to make room for on an array's word; more room comes with more bytes.
const PREALLOCATED: usize = 16 * 1024;

/// Reads one event. After an error the cursor is anywhere inside it.
pub(super) fn decode<'a>(cursor: &mut Cursor<'a>) -> Result<Event<'a>, Reject> {
    let mut draft = Draft::default();
    match cursor.head()? {
        Head::Map(length) => {
            for _ in 0..length {
                let field = match cursor.head()? {
                    Head::Text(name) => {
                        NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
                    }
                    _ => return Err(Reject::Malformed),
                };
                draft.read(cursor, field.unwrap_or(Field::Other))?;
            }
        }
        Head::Array(length) => {
            let rest = length.checked_sub(1).ok_or(Reject::Malformed)?;
            draft.read(cursor, Field::Type)?;
            let fields: &[Field] = match draft.tag {
                b"BlockStored" => &STORED,
                b"BlockRemoved" => &REMOVED,
                _ => {
                    cursor.skip_many(rest)?;
                    return draft.finish();
                }
            };
            for at in 0..rest {
                match fields.get(at) {
                    Some(&field) => draft.read(cursor, field)?,
                    None => draft.read_tail(cursor, at - fields.len())?,
                }
            }
        }
        _ => return Err(Reject::Malformed),
    }
    draft.finish()
}

/// An event in the making: which fields came, and what they said.
#[derive(Debug, Default)]
struct Draft<'a> {
    tag: &'a [u8],
    stored: Stored<'a>,
    has_hashes: bool,
}

impl<'a> Draft<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>, field: Field) -> Result<(), Reject> {
        let stored = &mut self.stored;
        match field {
            Field::Type => match cursor.head()? {
                Head::Text(tag) => self.tag = tag,
                _ => return Err(Reject::Malformed),
            },
            Field::Hashes => {
                let length = cursor.array()?.ok_or(Reject::Malformed)?;
                stored.hashes = Vec::with_capacity(length.min(PREALLOCATED));
                for _ in 0..length {
                    stored.hashes.push(hash(cursor.head()?)?.ok_or(Reject::BlockHash)?);
                }
                self.has_hashes = true;
            }
            Field::Parent => stored.parent = hash(cursor.head()?)?,
            Field::Tokens => stored.tokens = tokens(cursor)?,
            Field::BlockSize => {
                stored.block_size = cursor.optional_u32()?.ok_or(Reject::Malformed)?;
            }
            Field::AdapterId => {
                let mut value = cursor.clone();
                cursor.skip()?;
                stored.has_adapter_id = value.head()? != Head::Nil;
            }
            Field::Medium => stored.scope.medium = cursor.optional_text()?,
            Field::Adapter => {
                // SGLang puts a map of metadata here.
                let mut value = cursor.clone();
                match value.head()? {
                    Head::Map(length) => {
                        stored.cache_salt = salt_of(&mut value, length)?;
                        *cursor = value;
                    }
                    _ => stored.adapter = cursor.optional_text()?,
                }
            }
            Field::ExtraKeys => stored.extra_keys = per_block(cursor, block_keys)?,
            Field::Group => stored.scope.group = cursor.optional_u32()?,
            Field::Kind => stored.scope.kind = cursor.optional_text()?,
            Field::Locality => stored.scope.locality = cursor.optional_text()?,
            Field::Ownership => stored.scope.ownership = cursor.optional_text()?,
            Field::CacheSalt => stored.cache_salt = cursor.optional_text()?,
            Field::Media => stored.media = per_block(cursor, block_media)?,
            Field::Other => cursor.skip()?,
        }
        Ok(())
    }

    /// A field of the tail. Engines other than vLLM filled the tail in other
    /// orders: what is of another type than its place says goes by its type.
    fn read_tail(&mut self, cursor: &mut Cursor<'a>, at: usize) -> Result<(), Reject> {
        let place = TAIL.get(at).copied().unwrap_or(Field::Other);
        let is_number = place == Field::Group;
        let field = match cursor.clone().head()? {
            Head::Array(_) => Field::Media,
            Head::Text(_) if is_number => Field::Kind,
            Head::Text(_) | Head::Nil => place,
            Head::Unsigned(_) if is_number => place,
            _ => Field::Other,
        };
        self.read(cursor, field)
    }

    fn finish(self) -> Result<Event<'a>, Reject> {
        let stored = self.stored;
        match self.tag {
            b"BlockStored" if self.has_hashes => Ok(Event::Stored(stored)),
            b"BlockRemoved" if self.has_hashes => {
                Ok(Event::Removed { scope: stored.scope, hashes: stored.hashes })
            }
            b"BlockStored" | b"BlockRemoved" | b"" => Err(Reject::Malformed),
            b"AllBlocksCleared" => Ok(Event::Cleared),
            b"Ignored" => Ok(Event::Ignored),
            _ => Err(Reject::UnknownEvent),
        }
    }
}

/// An engine hash: an integer, signed or not, a digest of up to 32 bytes, or either as text.
fn hash(head: Head<'_>) -> Result<Option<EngineHash>, Reject> {
    match head {
        Head::Nil => Ok(None),
        Head::Unsigned(hash) => Ok(Some(EngineHash(hash))),
        Head::Negative(hash) => Ok(Some(EngineHash(hash.cast_unsigned()))),
        Head::Bin(bytes) if matches!(bytes.len(), 1..=32) => {
            Ok(Some(EngineHash::from_bytes(bytes)))
        }
        Head::Text(text) => of_text(utf8(text)?).map(Some).ok_or(Reject::BlockHash),
        _ => Err(Reject::BlockHash),
    }
}

fn tokens(cursor: &mut Cursor<'_>) -> Result<Vec<u32>, Reject> {
    // Nil where an engine keeps them to itself.
    let length = cursor.array()?.unwrap_or(0);
    let mut tokens = Vec::with_capacity(length.min(PREALLOCATED));
    for _ in 0..length {
        match cursor.head()? {
            Head::Unsigned(token) => {
                tokens.push(u32::try_from(token).map_err(|_| Reject::Malformed)?);
            }
            Head::Array(_) => return Err(Reject::TokenPairs),
            _ => return Err(Reject::Malformed),
        }
    }
    Ok(tokens)
}

/// A list with one entry per block, or nil for none at all.
fn per_block<'a, T>(
    cursor: &mut Cursor<'a>,
    block: impl Fn(&mut Cursor<'a>) -> Result<Vec<T>, Reject>,
) -> Result<Vec<Vec<T>>, Reject> {
    let Some(length) = cursor.array()? else { return Ok(Vec::new()) };
    // Grows by what is really there: an entry is a byte, its vector is not.
    let mut blocks = Vec::new();
    for _ in 0..length {
        blocks.push(block(cursor)?);
    }
    Ok(blocks)
}

fn block_keys<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Key<'a>>, Reject> {
    let Some(length) = cursor.array()? else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for _ in 0..length {
        let raw = cursor.raw()?;
        let mut value = Cursor::new(raw);
        keys.push(match value.head()? {
            Head::Text(text) => Key::Text(utf8(text)?),
            Head::Bin(bytes) => Key::Opaque(bytes),
            Head::Array(1..) => match value.head()? {
                Head::Text(identifier) => Key::Media(utf8(identifier)?),
                _ => Key::Opaque(raw),
            },
            _ => Key::Opaque(raw),
        });
    }
    Ok(keys)
}

/// `{"mm_objects": [{"mm_hash": …}…]}`, the form that Dynamo's publishers use.
fn block_media(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, Reject> {
    let mut media = Vec::new();
    let length = match cursor.head()? {
        Head::Nil => return Ok(media),
        Head::Map(length) => length,
        _ => return Err(Reject::Malformed),
    };
    for _ in 0..length {
        match cursor.head()? {
            Head::Text(b"mm_objects") => {
                for _ in 0..cursor.array()?.unwrap_or(0) {
                    media.extend(media_object(cursor)?);
                }
            }
            _ => cursor.skip()?,
        }
    }
    Ok(media)
}

fn media_object(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Reject> {
    let Head::Map(length) = cursor.head()? else { return Err(Reject::Malformed) };
    let mut found = None;
    for _ in 0..length {
        match cursor.head()? {
            Head::Text(b"mm_hash") => {
                found = match cursor.head()? {
                    Head::Unsigned(hash) => Some(hash),
                    Head::Negative(hash) => Some(hash.cast_unsigned()),
                    Head::Text(identifier) => media_hash(utf8(identifier)?),
                    _ => return Err(Reject::Malformed),
                };
            }
            _ => cursor.skip()?,
        }
    }
    Ok(found)
}

fn salt_of<'a>(cursor: &mut Cursor<'a>, length: usize) -> Result<Option<&'a str>, Reject> {
    let mut salt = None;
    for _ in 0..length {
        match cursor.head()? {
            Head::Text(b"cache_salt") => salt = cursor.optional_text()?,
            _ => cursor.skip()?,
        }
    }
    Ok(salt)
}
