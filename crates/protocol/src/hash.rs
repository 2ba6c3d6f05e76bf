//! A 64-bit hash on the wire.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A block hash as messages carry it.
///
/// Written as an unsigned number. Read from an unsigned or a signed number
/// (Dynamo's services print `i64`) or a decimal string of either (JavaScript
/// loses digits beyond 2^53); a signed value is taken as its two's complement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub u64);

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HashVisitor)
    }
}

struct HashVisitor;

impl Visitor<'_> for HashVisitor {
    type Value = Hash;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a 64-bit integer, or a decimal string of one")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Hash, E> {
        Ok(Hash(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Hash, E> {
        Ok(Hash(value.cast_unsigned()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Hash, E> {
        value
            .parse::<u64>()
            .or_else(|_| value.parse::<i64>().map(i64::cast_unsigned))
            .map(Hash)
            .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::Hash;

    #[test]
    fn reads_unsigned_signed_and_decimal_strings() {
        let read: Vec<Hash> =
            serde_json::from_str("[18446744073709551615, -1, \"18446744073709551615\", \"-1\"]")
                .unwrap();
        assert_eq!(read, [Hash(u64::MAX); 4]);
    }

    #[test]
    fn refuses_fractions_and_words() {
        assert!(serde_json::from_str::<Hash>("1.5").is_err());
        assert!(serde_json::from_str::<Hash>("\"0x10\"").is_err());
    }
}
