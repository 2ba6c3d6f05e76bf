//! What a recording implies, as simply as it can be said.
//!
//! Blocks by the engine's own names, chained by their parents' names, with a
//! count of copies. Deliberately nothing of `events`, `blocks` or `radix` in it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any MessagePack value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Value {
    Nil,
    Int(i128),
    /// As bits, so that values can be keys.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Nil)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Nil)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Float(value.to_bits()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_owned()))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
                Ok(Value::Bytes(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

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

const REMOVED: [&str; 4] = ["type", "block_hashes", "medium", "group_idx"];

impl Value {
    fn list(&self) -> &[Value] {
        match self {
            Value::List(values) => values,
            _ => &[],
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A field of an event, by its name in maps and by its place in arrays.
    fn field(&self, name: &str) -> &Value {
        let places = match self.list().first().and_then(Value::text) {
            Some("BlockRemoved") => &REMOVED[..],
            _ => &STORED[..],
        };
        let found = match self {
            Value::Map(entries) => {
                entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
            }
            Value::List(values) => {
                places.iter().position(|&known| known == name).and_then(|at| values.get(at))
            }
            _ => None,
        };
        found.unwrap_or(&Value::Nil)
    }
}

/// A batch as serde reads it: its time and the engine's rank.
pub struct Batch {
    events: Vec<Value>,
    /// The engine's clock, in seconds.
    pub time: f64,
    /// The third element of the batch.
    pub rank: Option<i128>,
}

impl Batch {
    /// Nothing if it is no batch at all.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let batch: Value = rmp_serde::from_slice(payload).ok()?;
        let [time, events, rest @ ..] = batch.list() else { return None };
        let time = match time {
            Value::Float(bits) => f64::from_bits(*bits),
            _ => 0.0,
        };
        let rank = match rest.first() {
            Some(Value::Int(rank)) => Some(*rank),
            _ => None,
        };
        Some(Self { events: events.list().to_vec(), time, rank })
    }
}

struct Known {
    copies: usize,
    parent: Value,
    tokens: Vec<Value>,
    /// Adapter and salt, known of first blocks only.
    adapter: Option<String>,
    salt: Option<String>,
}

/// What one subscriber's engine has, by what it said.
#[derive(Default)]
pub struct Model {
    blocks: HashMap<Value, Known>,
    adapters: HashSet<String>,
    other_groups: HashSet<Value>,
    next: u64,
}

impl Model {
    /// Takes a message in, in order; a number that was there before means that the
    /// engine began anew.
    pub fn apply(&mut self, seq: u64, payload: &[u8]) {
        if seq < self.next {
            self.blocks.clear();
        }
        self.next = seq + 1;
        for event in Batch::read(payload).map(|batch| batch.events).unwrap_or_default() {
            if !self.is_ours(&event) {
                continue;
            }
            match event.field("type").text() {
                Some("BlockStored") => self.stored(&event),
                Some("BlockRemoved") => {
                    for name in event.field("block_hashes").list() {
                        let known = self.blocks.get_mut(name);
                        if known.is_some_and(|known| {
                            known.copies -= 1;
                            known.copies == 0
                        }) {
                            self.blocks.remove(name);
                        }
                    }
                }
                Some("AllBlocksCleared") => self.blocks.clear(),
                _ => {}
            }
        }
    }

    /// Only the accelerator's cache counts, and of it only full attention.
    fn is_ours(&mut self, event: &Value) -> bool {
        let group = event.field("group_idx").clone();
        if let Some(kind) = event.field("kv_cache_spec_kind").text() {
            let full = ["full_attention", "mla_attention", "sink_full_attention"].contains(&kind);
            if !full {
                self.other_groups.insert(group.clone());
            }
        }
        !self.other_groups.contains(&group)
            && matches!(event.field("medium").text(), None | Some("" | "GPU"))
    }

    fn stored(&mut self, event: &Value) {
        let adapter = event.field("lora_name").text().map(str::to_owned);
        self.adapters.extend(adapter.clone());
        let names = event.field("block_hashes").list();
        let tokens = event.field("token_ids").list();
        let mut parent = event.field("parent_block_hash").clone();
        for (at, (name, tokens)) in
            names.iter().zip(tokens.chunks_exact(tokens.len() / names.len().max(1))).enumerate()
        {
            let keys = event.field("extra_keys").list().get(at).map_or(&[][..], Value::list);
            let mut texts = keys.iter().filter_map(Value::text);
            let salt = texts.rfind(|&text| adapter.as_deref() != Some(text));
            let known = self.blocks.entry(name.clone()).or_insert(Known {
                copies: 0,
                parent,
                tokens: tokens.to_vec(),
                adapter: adapter.clone(),
                salt: salt.map(str::to_owned),
            });
            known.copies += 1;
            parent = name.clone();
        }
    }

    /// Whether an event named this adapter.
    pub fn knows_adapter(&self, name: &str) -> bool {
        self.adapters.contains(name)
    }

    /// How many leading blocks of a request the engine has.
    pub fn overlap(&self, tokens: &[u32], adapter: Option<&str>, salt: Option<&str>) -> u32 {
        let size = self.blocks.values().next().map_or(usize::MAX, |known| known.tokens.len());
        let mut parents = HashSet::from([&Value::Nil]);
        let mut overlap = 0;
        for block in tokens.chunks_exact(size.max(1)) {
            let block: Vec<Value> = block.iter().map(|&id| Value::Int(id.into())).collect();
            let matching = self.blocks.iter().filter(|(_, known)| {
                parents.contains(&known.parent)
                    && known.tokens == block
                    && (overlap > 0
                        || (known.adapter.as_deref() == adapter && known.salt.as_deref() == salt))
            });
            parents = matching.map(|(name, _)| name).collect();
            if parents.is_empty() {
                break;
            }
            overlap += 1;
        }
        overlap
    }
}
