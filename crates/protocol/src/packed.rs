//! Hashes as MessagePack packs them: one byte string, not thousands of numbers.
//!
//! A prompt of 32,000 tokens has 2,000 hashes. Number by number, each costs a tag
//! and a call of a visitor at both ends, some 25 µs in all; as bytes they are
//! copied. JSON keeps its numbers, for people and scripts, and either spelling is
//! read in either encoding.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Hash;

/// Bytes of one hash, little-endian.
const SIZE: usize = size_of::<u64>();

/// The longest list that is made room for before its elements are seen.
const TRUSTED: usize = 1 << 16;

/// Hashes by block size, for `#[serde(with = "…")]`.
pub(crate) fn serialize<S: Serializer>(
    hashes: &BTreeMap<String, Vec<Hash>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return hashes.serialize(serializer);
    }
    serializer.collect_map(hashes.iter().map(|(size, hashes)| (size, Packed(hashes))))
}

/// The same, read.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<Hash>>, D::Error> {
    let read = BTreeMap::<String, Unpacked>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(size, Unpacked(hashes))| (size, hashes)).collect())
}

struct Packed<'a>(&'a [Hash]);

impl Serialize for Packed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_mul(SIZE));
        for hash in self.0 {
            bytes.extend_from_slice(&hash.0.to_le_bytes());
        }
        serializer.serialize_bytes(&bytes)
    }
}

struct Unpacked(Vec<Hash>);

impl<'de> Deserialize<'de> for Unpacked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnpackedVisitor).map(Self)
    }
}

struct UnpackedVisitor;

impl<'de> Visitor<'de> for UnpackedVisitor {
    type Value = Vec<Hash>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of hashes, or their bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<Hash>, E> {
        let (hashes, rest) = bytes.as_chunks::<SIZE>();
        if !rest.is_empty() {
            return Err(E::invalid_length(bytes.len(), &"eight bytes for each hash"));
        }
        Ok(hashes.iter().map(|hash| Hash(u64::from_le_bytes(*hash))).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Hash>, A::Error> {
        let mut hashes = Vec::with_capacity(list.size_hint().unwrap_or(0).min(TRUSTED));
        while let Some(hash) = list.next_element()? {
            hashes.push(hash);
        }
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Hash, RouteRequest};

    fn request(hashes: Vec<Hash>) -> RouteRequest {
        RouteRequest { hashes: [("16".to_owned(), hashes)].into(), ..RouteRequest::default() }
    }

    #[test]
    fn message_pack_takes_eight_bytes_a_hash_and_json_keeps_numbers() {
        let few = rmp_serde::to_vec_named(&request(vec![Hash(u64::MAX); 100])).unwrap();
        let many = rmp_serde::to_vec_named(&request(vec![Hash(u64::MAX); 200])).unwrap();
        assert_eq!(many.len() - few.len(), 800);
        assert_eq!(rmp_serde::from_slice::<RouteRequest>(&many).unwrap().hashes["16"].len(), 200);
        let json = serde_json::to_string(&request(vec![Hash(7), Hash(u64::MAX)])).unwrap();
        assert!(json.contains("[7,18446744073709551615]"), "{json}");
    }

    #[test]
    fn lists_of_numbers_are_read_from_message_pack_too() {
        let listed = serde_json::json!({"hashes": {"16": [1, -1, "2"]}});
        let packed = rmp_serde::to_vec_named(&listed).unwrap();
        let read: RouteRequest = rmp_serde::from_slice(&packed).unwrap();
        assert_eq!(read, request(vec![Hash(1), Hash(u64::MAX), Hash(2)]));
    }

    #[test]
    fn a_broken_byte_string_is_refused() {
        let good = rmp_serde::to_vec_named(&request(vec![Hash(1)])).unwrap();
        let at = good.windows(2).position(|pair| pair == [0xc4, 8]).unwrap();
        let mut short = good.clone();
        short[at + 1] = 7;
        short.remove(at + 2);
        assert!(rmp_serde::from_slice::<RouteRequest>(&good).is_ok());
        let error = rmp_serde::from_slice::<RouteRequest>(&short).unwrap_err();
        assert!(error.to_string().contains("eight bytes"), "{error}");
    }
}
