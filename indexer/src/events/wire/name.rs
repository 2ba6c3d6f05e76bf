//! Block hashes that engines write as text.

use warmpath_radix::EngineHash;

/// A digest has at most so many bytes.
const DIGEST_MOST: usize = 32;

/// The hash that a text names: a decimal integer, signed or not, or hexadecimal
/// digits of up to 32 bytes, as TensorRT-LLM's second cache manager writes SHA-256.
///
/// What is both is decimal: digests have too many digits to be an integer.
pub(in crate::events) fn of_text(text: &str) -> Option<EngineHash> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(EngineHash(number));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(EngineHash(number.cast_unsigned()));
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let whole = digits.is_ascii() && digits.len().is_multiple_of(2);
    if digits.is_empty() || !whole || digits.len() > 2 * DIGEST_MOST {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| byte(pair).filter(|_| pair.iter().all(u8::is_ascii_hexdigit)))
        .collect();
    bytes.map(|bytes| EngineHash::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_digests_are_read() {
        assert_eq!(of_text("18446744073709551615"), Some(EngineHash(u64::MAX)));
        assert_eq!(of_text("-1"), Some(EngineHash(u64::MAX)));
        let digest: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let bytes: Vec<u8> = (0..32).collect();
        assert_eq!(of_text(&digest), Some(EngineHash::from_bytes(&bytes)));
        assert_eq!(of_text("0xff"), Some(EngineHash::from_bytes(&[0xff])));
    }

    #[test]
    fn other_texts_name_no_block() {
        for text in ["", "0x", "abc", "zz", "+f", "größ", &"a".repeat(66), "1.5", "+a+b"] {
            assert_eq!(of_text(text), None, "{text:?}");
        }
    }
}
