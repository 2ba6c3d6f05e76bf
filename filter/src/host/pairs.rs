//! Header maps as bytes, the way the ABI hands them over.
//!
//! `u32` count, then for each pair the lengths of name and value as `u32`, then
//! the names and values, each with a NUL behind it; all little-endian.

use super::{Headers, Status};

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

/// The header map in these bytes; none at all are the empty map.
pub fn read(bytes: &[u8]) -> Result<Headers, Status> {
    if bytes.is_empty() {
        return Ok(Headers::new());
    }
    parse(bytes).ok_or(Status::PARSE_FAILURE)
}

fn parse(bytes: &[u8]) -> Option<Headers> {
    let mut sizes = bytes;
    let count = usize::try_from(number(&mut sizes)?).ok()?;
    let mut texts = sizes.get(count.checked_mul(8)?..)?;
    let mut pairs = Headers::new();
    for _ in 0..count {
        let name = number(&mut sizes)?;
        let value = number(&mut sizes)?;
        pairs.push((text(&mut texts, name)?, text(&mut texts, value)?));
    }
    Some(pairs)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    *bytes = tail;
    Some(u32::from_le_bytes(*head))
}

fn text(bytes: &mut &[u8], size: u32) -> Option<String> {
    let (head, tail) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
    *bytes = tail.get(1..)?;
    Some(String::from_utf8_lossy(head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let pairs = [(":method", "POST"), ("empty", ""), ("ü", "ß")];
        let read_back = read(&write(&pairs)).unwrap();
        assert!(read_back.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(pairs));
        assert!(read(&[]).unwrap().is_empty());
        assert!(read(&write(&[])).unwrap().is_empty());
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
            assert_eq!(read(&good[..cut]), Err(Status::PARSE_FAILURE), "cut at {cut}");
        }
        assert_eq!(read(&[0xff; 12]), Err(Status::PARSE_FAILURE));
    }

    #[test]
    fn a_value_that_is_not_utf8_does_not_hide_the_others() {
        let mut bytes = write(&[("a", "x"), ("b", "y")]);
        let x = bytes.iter().position(|byte| *byte == b'x').unwrap();
        bytes[x] = 0xff;
        let pairs = read(&bytes).unwrap();
        assert_eq!(pairs, [("a".into(), "\u{fffd}".into()), ("b".into(), "y".into())]);
    }
}
