//! The JSON of `POST /kv_cache_events`, as TensorRT-LLM's event serializer writes it.
//!
//! The list is cut into its elements first and each is read by itself, so that a
//! broken event costs that event. Serde's tagged enums were rejected: they keep a
//! whole event in memory as a tree, at ten times the size of its tokens.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use warmpath_radix::EngineHash;

use crate::events::wire;

/// The elements of an answer; the error is the reason to count.
pub(super) fn elements(body: &[u8]) -> Result<Vec<&RawValue>, &'static str> {
    serde_json::from_slice(body).map_err(|_| "not_events")
}

/// One event; fields that are not here are skipped.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) event_id: u64,
    /// Of the attention whose cache it is about, in tokens.
    #[serde(default)]
    pub(super) window_size: Option<i64>,
    #[serde(default)]
    pub(super) attention_dp_rank: Option<u32>,
    pub(super) data: Data,
}

impl Event {
    pub(super) fn read(element: &RawValue) -> Option<Self> {
        serde_json::from_str(element.get()).ok()
    }
}

/// The fields of all kinds of event.
#[derive(Debug, Deserialize)]
pub(super) struct Data {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) parent_hash: Option<Hash>,
    #[serde(default)]
    pub(super) blocks: Option<Vec<Block>>,
    #[serde(default)]
    pub(super) lora_name: Option<String>,
    #[serde(default)]
    pub(super) block_hashes: Option<Vec<Hash>>,
    #[serde(default)]
    pub(super) block_hash: Option<Hash>,
    #[serde(default)]
    pub(super) cache_level: Option<Change>,
}

/// A stored block.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    pub(super) block_hash: Hash,
    #[serde(default)]
    pub(super) tokens: Option<Vec<Token>>,
    #[serde(default)]
    pub(super) cache_level: Option<u32>,
    #[serde(default)]
    pub(super) lora_id: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) mm_keys: Option<Vec<MediaKey>>,
}

/// A medium that lies in a block.
#[derive(Debug, Deserialize)]
pub(super) struct MediaKey {
    #[serde(default)]
    pub(super) hash: Option<String>,
}

/// What became of a block's cache level.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    pub(super) new_value: u32,
    pub(super) old_value: u32,
}

/// A block's hash: an integer of 64 bits, signed or not, or text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(pub(super) EngineHash);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Hash;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an integer or a text of digits")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Hash, E> {
                Ok(Hash(EngineHash(number)))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Hash, E> {
                Ok(Hash(EngineHash(number.cast_unsigned())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Hash, E> {
                wire::of_text(text).map(Hash).ok_or_else(|| E::custom("not a block hash"))
            }
        }
        from.deserialize_any(Read)
    }
}

/// A token: its id, and what else distinguishes it (0 for text).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) extra: u64,
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Token;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a token")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Token, E> {
                let id = u32::try_from(number).map_err(|_| E::custom("no token id"))?;
                Ok(Token { id, extra: 0 })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Token, A::Error> {
                let (mut id, mut extra) = (None, 0);
                while let Some(key) = map.next_key::<Key>()? {
                    match key {
                        Key::Id => id = Some(map.next_value::<u32>()?),
                        Key::Extra => extra = map.next_value::<Option<u64>>()?.unwrap_or(0),
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let id = id.ok_or_else(|| A::Error::custom("a token without an id"))?;
                Ok(Token { id, extra })
            }
        }
        from.deserialize_any(Read)
    }
}

/// A key of a token's map.
#[derive(Deserialize)]
enum Key {
    #[serde(rename = "token_id")]
    Id,
    #[serde(rename = "token_extra_id")]
    Extra,
    #[serde(other)]
    Other,
}
