//! KV events as bytes, in the layout of any vLLM release since 0.9, of SGLang, and of
//! TensorRT-LLM's publishers.
//!
//! The layouts differ only in which fields they have and whether these carry
//! names, so they are rows of one table over one list of fields. Checked byte for
//! byte against recordings of 0.23 and 0.32.

use rmp::encode;

use crate::engine::{Event, Scope};
use crate::{EngineKind, EventLayout};

/// What varies between layouts.
pub(crate) struct Layout {
    /// Events are maps; else arrays.
    maps: bool,
    /// Fields of a BlockStored, with the tag.
    stored: &'static [&'static str],
    /// Fields of a BlockRemoved, with the tag.
    removed: &'static [&'static str],
    /// Integer hashes are signed.
    signed: bool,
    /// Every block is an event of its own, with SGLang's metadata where it has any.
    pub(crate) pages: bool,
    /// Every event is a batch of its own.
    pub(crate) single: bool,
    /// An emptied cache is told.
    pub(crate) clears: bool,
    /// The batch ends with the rank.
    rank: bool,
    /// Replies to a replay have a topic frame.
    pub(crate) replay_topic: bool,
    /// The release that a worker claims to be.
    pub(crate) release: &'static str,
}

impl EventLayout {
    pub(crate) const fn layout(self) -> Layout {
        const fn row(stored: usize, removed: usize, release: &'static str) -> Layout {
            let (stored, removed) = (STORED.split_at(stored).0, REMOVED.split_at(removed).0);
            let (maps, signed, rank, replay_topic) = (false, false, true, false);
            let (pages, single, clears) = (false, false, true);
            Layout {
                maps,
                stored,
                removed,
                signed,
                pages,
                single,
                clears,
                rank,
                replay_topic,
                release,
            }
        }
        match self {
            EventLayout::Map => Layout { maps: true, replay_topic: true, ..row(12, 4, "0.32.0") },
            EventLayout::Map024 => Layout { maps: true, ..row(12, 4, "0.24.0") },
            EventLayout::Array022 => row(12, 4, "0.23.0"),
            EventLayout::Array020 => row(10, 4, "0.20.0"),
            EventLayout::Array017 => row(9, 3, "0.17.0"),
            EventLayout::Array014 => row(8, 3, "0.14.0"),
            EventLayout::Array0102 => row(7, 3, "0.10.2"),
            EventLayout::Array010 => Layout { signed: true, ..row(6, 2, "0.10.0") },
            EventLayout::Array009 => Layout { signed: true, rank: false, ..row(6, 2, "0.9.0.1") },
        }
    }
}

impl EngineKind {
    /// The layout of this engine; vLLM's is that of the release.
    pub(crate) const fn layout(self, release: EventLayout) -> Layout {
        let trtllm = Layout {
            maps: true,
            stored: &TRTLLM_STORED,
            removed: REMOVED.split_at(2).0,
            single: true,
            ..EventLayout::Map.layout()
        };
        match self {
            EngineKind::Vllm => release.layout(),
            EngineKind::Sglang => Layout {
                stored: STORED.split_at(7).0,
                removed: REMOVED.split_at(3).0,
                signed: true,
                pages: true,
                release: "0.5.18",
                ..EventLayout::Array022.layout()
            },
            EngineKind::TrtllmZmq | EngineKind::TrtllmHttp => {
                Layout { signed: true, release: "1.3.0", ..trtllm }
            }
            EngineKind::TrtllmSeed => Layout { clears: false, release: "1.1.0", ..trtllm },
        }
    }
}

/// Fields of TensorRT-LLM's BlockStored; the last only where there is an adapter.
const TRTLLM_STORED: [&str; 6] =
    ["type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_name"];

/// Fields of a BlockStored in the order of the arrays.
const STORED: [&str; 12] = [
    "type",
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
];

/// Fields of a BlockRemoved in the order of the arrays.
const REMOVED: [&str; 4] = ["type", "block_hashes", "medium", "group_idx"];

/// Fields that a map omits where they are nil, and ours always are.
const OMITTED: &str = "kv_cache_spec_sliding_window";

/// Encodes batches of one rank.
pub(crate) struct Encoder {
    pub(crate) layout: Layout,
    pub(crate) byte_hashes: bool,
    pub(crate) block_size: usize,
    pub(crate) rank: u32,
}

/// Writes to a `Vec` cannot fail; rmp's signatures do not know that.
macro_rules! put {
    ($function:ident, $out:expr $(, $value:expr)*) => {
        let _ = encode::$function($out $(, $value)*);
    };
}

impl Encoder {
    /// One batch. `unix_seconds` is the engine's clock.
    pub(crate) fn batch(&self, unix_seconds: f64, events: &[Event]) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put!(write_array_len, &mut out, if self.layout.rank { 3 } else { 2 });
        put!(write_f64, &mut out, unix_seconds);
        put!(write_array_len, &mut out, events.len() as u32);
        for event in events {
            match event {
                Event::Stored { scope, .. } => {
                    let own = self.layout.maps && !self.layout.single;
                    let session = scope.session.as_deref().filter(|_| own);
                    let more = session.map(|session| ("session_id", session));
                    self.fields(&mut out, self.layout.stored, event, more);
                }
                Event::Removed { .. } | Event::Partial { .. } => {
                    self.fields(&mut out, self.layout.removed, event, None);
                }
                Event::Cleared => self.fields(&mut out, &REMOVED[..1], event, None),
            }
        }
        if self.layout.rank {
            put!(write_uint, &mut out, self.rank.into());
        }
        out
    }

    fn fields(&self, out: &mut Vec<u8>, names: &[&str], event: &Event, more: Option<(&str, &str)>) {
        let scope = match event {
            Event::Stored { scope, .. } => Some(scope),
            _ => None,
        };
        if !self.layout.maps {
            let salt = scope.and_then(|scope| scope.cache_salt.as_ref());
            let salt = salt.filter(|_| self.layout.pages);
            put!(write_array_len, out, names.len() as u32 + u32::from(salt.is_some()));
            names.iter().for_each(|name| self.field(out, name, event));
            if let Some(salt) = salt {
                put!(write_map_len, out, 1);
                put!(write_str, out, "cache_salt");
                put!(write_str, out, salt);
            }
            return;
        }
        let adapted = scope.is_some_and(|scope| scope.adapter.is_some());
        let omitted =
            |name| name == OMITTED || self.layout.single && name == "lora_name" && !adapted;
        let names = names.iter().filter(|&&name| !omitted(name));
        put!(write_map_len, out, names.clone().count() as u32 + u32::from(more.is_some()));
        for name in names {
            put!(write_str, out, name);
            self.field(out, name, event);
        }
        if let Some((name, value)) = more {
            put!(write_str, out, name);
            put!(write_str, out, value);
        }
    }

    fn field(&self, out: &mut Vec<u8>, name: &str, event: &Event) {
        match (name, event) {
            ("type", Event::Stored { .. }) => {
                put!(write_str, out, "BlockStored");
            }
            ("type", Event::Removed { .. }) => {
                put!(write_str, out, "BlockRemoved");
            }
            ("type", Event::Cleared) => {
                put!(write_str, out, "AllBlocksCleared");
            }
            ("block_hashes", Event::Stored { hashes, .. }) => self.hashes(out, hashes),
            ("block_hashes", Event::Removed { hash }) => self.hashes(out, &[*hash]),
            ("parent_block_hash", Event::Stored { parent: Some(hash), .. }) => {
                self.hash(out, *hash);
            }
            ("token_ids", Event::Stored { tokens, .. }) => {
                put!(write_array_len, out, tokens.len() as u32);
                for &token in tokens {
                    put!(write_uint, out, token.into());
                }
            }
            ("block_size", _) => {
                put!(write_uint, out, self.block_size as u64);
            }
            ("medium", _) => {
                put!(write_str, out, "GPU");
            }
            // SGLang leaves it empty, whatever adapter the blocks are of.
            ("lora_id", Event::Stored { scope, .. })
                if scope.adapter.is_some() && !self.layout.pages =>
            {
                put!(write_uint, out, scope.adapter.as_ref().map_or(0, |adapter| adapter.id));
            }
            ("lora_name", Event::Stored { scope, .. }) if scope.adapter.is_some() => {
                put!(write_str, out, scope.adapter.as_ref().map_or("", |adapter| &adapter.name));
            }
            ("extra_keys", Event::Stored { hashes, first, scope, .. }) => {
                put!(write_array_len, out, hashes.len() as u32);
                (0..hashes.len()).for_each(|at| extra_keys(out, scope, *first && at == 0));
            }
            ("group_idx", _) => {
                put!(write_uint, out, 0);
            }
            ("kv_cache_spec_kind", _) => {
                put!(write_str, out, "full_attention");
            }
            _ => {
                put!(write_nil, out);
            }
        }
    }

    fn hashes(&self, out: &mut Vec<u8>, hashes: &[u64]) {
        put!(write_array_len, out, hashes.len() as u32);
        hashes.iter().for_each(|&hash| self.hash(out, hash));
    }

    /// An integer is the end of the 32 bytes, as in vLLM.
    fn hash(&self, out: &mut Vec<u8>, hash: u64) {
        if self.byte_hashes {
            let mut bytes = [0; 32];
            let mut part = hash;
            for chunk in bytes.rchunks_exact_mut(8) {
                chunk.copy_from_slice(&part.to_be_bytes());
                part = warmpath_blocks::sequence_hash(hash, part);
            }
            put!(write_bin, out, &bytes);
        } else if self.layout.signed {
            put!(write_sint, out, hash as i64);
        } else {
            put!(write_uint, out, hash);
        }
    }
}

/// What went into a block's hash besides tokens: the adapter in every block, the salt in the first.
fn extra_keys(out: &mut Vec<u8>, scope: &Scope, first: bool) {
    let adapter = scope.adapter.as_ref().map(|adapter| adapter.name.as_str());
    let keys: Vec<&str> =
        adapter.into_iter().chain(scope.cache_salt.as_deref().filter(|_| first)).collect();
    if keys.is_empty() {
        put!(write_nil, out);
        return;
    }
    put!(write_array_len, out, keys.len() as u32);
    for key in keys {
        put!(write_str, out, key);
    }
}

#[cfg(test)]
mod tests;
