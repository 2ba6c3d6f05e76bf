//! Header maps as bytes, the way the ABI hands them over.
//!
//! `u32` count, then for each pair the lengths of name and value as `u32`, then
//! the names and values, each with a NUL behind it; all little-endian.

use std::borrow::Cow;
use std::ops::Range;

use super::Status;

/// A header map: names in lower case, as Envoy has them, and values. What is not UTF-8
/// is read with replacement characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
    /// Where names and values are in `bytes`.
    places: Vec<[Range<usize>; 2]>,
}

impl Headers {
    /// The header map in these bytes; none at all are the empty map.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Status> {
        let places = if bytes.is_empty() { Some(Vec::new()) } else { places(&bytes) };
        let places = places.ok_or(Status::PARSE_FAILURE)?;
        Ok(Self { bytes, places })
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let text = |place: &Range<usize>| {
            String::from_utf8_lossy(self.bytes.get(place.clone()).unwrap_or_default())
        };
        self.places.iter().map(move |[name, value]| (text(name), text(value)))
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// The bytes of a header map.
pub fn write(pairs: &[(&str, &str)]) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend(length(name));
        bytes.extend(length(value));
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Envoy's `GrpcService` message that names a cluster: field 1, `envoy_grpc`, with
/// its field 1, `cluster_name`.
pub fn grpc_service(cluster: &str) -> Vec<u8> {
    field(&field(cluster.as_bytes()))
}

/// Field 1 of a protobuf message, of bytes.
fn field(content: &[u8]) -> Vec<u8> {
    const FIELD_1_OF_BYTES: u8 = 0x0a;
    let mut bytes = vec![FIELD_1_OF_BYTES];
    let mut length = content.len();
    while let Ok(low) = u8::try_from(length & 0x7f) {
        length >>= 7;
        bytes.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

fn places(bytes: &[u8]) -> Option<Vec<[Range<usize>; 2]>> {
    let mut sizes = bytes;
    let count = usize::try_from(number(&mut sizes)?).ok()?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    // No room is made for pairs that are not there.
    bytes.get(at..)?;
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        places.push([place(&mut sizes, &mut at)?, place(&mut sizes, &mut at)?]);
    }
    bytes.get(..at)?;
    Some(places)
}

fn place(sizes: &mut &[u8], at: &mut usize) -> Option<Range<usize>> {
    let begin = *at;
    let end = begin.checked_add(usize::try_from(number(sizes)?).ok()?)?;
    *at = end.checked_add(1)?;
    Some(begin..end)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    *bytes = tail;
    Some(u32::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let pairs = [(":method", "POST"), ("empty", ""), ("ü", "ß")];
        let read_back = Headers::read(write(&pairs)).unwrap();
        assert!(read_back.iter().eq(pairs.map(|(n, v)| (n.into(), v.into()))));
        assert_eq!(read_back.get("ü").as_deref(), Some("ß"));
        assert_eq!(read_back.get("name"), None);
        assert_eq!(Headers::read(Vec::new()).unwrap().iter().count(), 0);
        assert_eq!(Headers::read(write(&[])).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_cluster_is_named_as_protobuf_does() {
        assert_eq!(grpc_service("ab"), b"\x0a\x04\x0a\x02ab");
        let long = grpc_service(&"c".repeat(300));
        assert_eq!(long[..6], [0x0a, 0xaf, 0x02, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 306);
    }

    #[test]
    fn broken_maps_are_refused() {
        let good = write(&[("name", "value")]);
        for cut in 1..good.len() {
            let read = Headers::read(good[..cut].to_vec());
            assert_eq!(read, Err(Status::PARSE_FAILURE), "cut at {cut}");
        }
        assert_eq!(Headers::read(vec![0xff; 12]), Err(Status::PARSE_FAILURE));
    }

    #[test]
    fn a_value_that_is_not_utf8_does_not_hide_the_others() {
        let mut bytes = write(&[("a", "x"), ("b", "y")]);
        let x = bytes.iter().position(|byte| *byte == b'x').unwrap();
        bytes[x] = 0xff;
        let headers = Headers::read(bytes).unwrap();
        assert_eq!(headers.get("a").as_deref(), Some("\u{fffd}"));
        assert_eq!(headers.get("b").as_deref(), Some("y"));
    }
}
