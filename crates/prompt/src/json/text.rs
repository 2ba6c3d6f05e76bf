//! The inside of a string, as its bytes arrive.

use super::JsonError;
use super::scan::{BLOCK, plain};

/// A string under way: what its bytes so far stand for.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Written beyond `used`: whole blocks are copied first and then looked at.
    bytes: Vec<u8>,
    used: usize,
    /// An escape whose end has not arrived.
    escape: [u8; ESCAPE],
    escape_len: usize,
}

/// The longest escape: a surrogate pair.
const ESCAPE: usize = 12;
/// Room that is made at least.
const LEAST: usize = 4096;

impl Text {
    /// Reads on from `at`: where the string's quote is, or none where it did not arrive.
    #[inline]
    pub(super) fn read(&mut self, chunk: &[u8], mut at: usize) -> Result<Option<usize>, JsonError> {
        while self.escape_len > 0 {
            let Some(byte) = chunk.get(at) else { return Ok(None) };
            at += 1;
            if let Some(slot) = self.escape.get_mut(self.escape_len) {
                *slot = *byte;
            }
            self.escape_len += 1;
            let escape = self.escape;
            let escape = escape.get(..self.escape_len).ok_or(JsonError::Syntax)?;
            if let Some((char, _)) = unescape(escape)? {
                self.escape_len = 0;
                self.push(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        loop {
            at = self.run(chunk, at);
            match chunk.get(at) {
                Some(b'"') => return Ok(Some(at)),
                Some(b'\\') => {}
                Some(_) => return Err(JsonError::Syntax),
                None => return Ok(None),
            }
            let rest = chunk.get(at..).unwrap_or_default();
            let rest = rest.get(..ESCAPE).unwrap_or(rest);
            if let Some((char, length)) = unescape(rest)? {
                self.push(char.encode_utf8(&mut [0; 4]).as_bytes());
                at += length;
            } else {
                for (slot, byte) in self.escape.iter_mut().zip(rest) {
                    *slot = *byte;
                }
                self.escape_len = rest.len();
                return Ok(None);
            }
        }
    }

    /// Takes plain bytes and escapes of one letter from `at` on; says where they end.
    #[inline]
    fn run(&mut self, chunk: &[u8], mut at: usize) -> usize {
        let mut used = self.used;
        while let Some(block) = chunk.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
            let Some(room) = self.bytes.get_mut(used..).and_then(<[u8]>::first_chunk_mut) else {
                self.used = used;
                self.make_room(BLOCK);
                continue;
            };
            *room = *block;
            let length = plain(block);
            used += length;
            at += length;
            if length == BLOCK {
                continue;
            }
            // The line feeds of a text are escapes, so that this is as frequent as lines.
            let (Some(b'\\'), Some(kind)) = (chunk.get(at), chunk.get(at + 1)) else { break };
            let (byte, Some(slot)) = (simple(*kind), self.bytes.get_mut(used)) else { break };
            if byte == 0 {
                break;
            }
            *slot = byte;
            used += 1;
            at += 2;
        }
        self.used = used;
        while let Some(byte) = chunk.get(at).filter(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
        {
            self.push(&[*byte]);
            at += 1;
        }
        at
    }

    /// Takes `bytes` as they are.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.used..self.used + bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
        }
    }

    #[inline]
    fn make_room(&mut self, more: usize) {
        let needed = self.used + more;
        if self.bytes.len() < needed {
            self.bytes.resize(needed.max(self.bytes.len() * 2).max(LEAST), 0);
        }
    }

    /// The text, complete, and ready for the next one.
    pub(super) fn take(&mut self) -> Result<&str, JsonError> {
        let used = std::mem::take(&mut self.used);
        let bytes = self.bytes.get(..used).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| JsonError::Syntax)
    }
}

/// What the escape at the start of `bytes` stands for and its length; none where more
/// bytes are needed to say.
fn unescape(bytes: &[u8]) -> Result<Option<(char, usize)>, JsonError> {
    let Some(kind) = bytes.get(1) else { return Ok(None) };
    match simple(*kind) {
        0 if *kind == b'u' => unicode(bytes),
        0 => Err(JsonError::Syntax),
        byte => Ok(Some((char::from(byte), 2))),
    }
}

/// What an escape of this one letter stands for, or 0.
#[inline]
fn simple(kind: u8) -> u8 {
    match kind {
        b'n' => b'\n',
        b'"' | b'\\' | b'/' => kind,
        b'b' => 8,
        b'f' => 0xc,
        b'r' => b'\r',
        b't' => b'\t',
        _ => 0,
    }
}

fn unicode(bytes: &[u8]) -> Result<Option<(char, usize)>, JsonError> {
    let Some(high) = hex4(bytes, 2)? else { return Ok(None) };
    if let Some(char) = char::from_u32(high) {
        return Ok(Some((char, 6)));
    }
    // A surrogate: the first of a pair or nothing that a string can hold.
    let pair = high < 0xdc00;
    match (bytes.get(6), bytes.get(7)) {
        (None, _) | (Some(b'\\'), None) if pair => return Ok(None),
        (Some(b'\\'), Some(b'u')) if pair => {}
        _ => return Err(JsonError::Unrepresentable),
    }
    let Some(low) = hex4(bytes, 8)? else { return Ok(None) };
    if !(0xdc00..0xe000).contains(&low) {
        return Err(JsonError::Unrepresentable);
    }
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
        .map(|char| Some((char, ESCAPE)))
        .ok_or(JsonError::Unrepresentable)
}

fn hex4(bytes: &[u8], from: usize) -> Result<Option<u32>, JsonError> {
    let mut value = 0;
    for at in from..from + 4 {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        let digit = char::from(*byte).to_digit(16).ok_or(JsonError::Syntax)?;
        value = value << 4 | digit;
    }
    Ok(Some(value))
}
