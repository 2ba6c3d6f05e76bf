//! Tables: damaged ones are refused, and one whose checksum lies harms nobody.
//!
//! Input, first byte even: patches of four bytes (place, three of it, and value) on a
//! sound table, whose checksum is then made right again; a zero place ends them and
//! text to encode follows. First byte odd: the table itself.

use std::path::Path;
use std::sync::LazyLock;

use warmpath_tokenizer::{Encoder, Table, compile};

use crate::bytes::Bytes;

/// The magic, the version and the number of sections come before the checksum, and
/// what it covers behind it.
const CHECKSUM: usize = 16;
const CHECKED_FROM: usize = 24;
const TEXT: &str = "Hello 世界, it's 12345  tokens…\n\n\t<|im_start|>user\nna\u{308}ive 👍🏽<|im_end|>   aaaaaaaaaaaaaaaa";

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny/tokenizer.json");
    let json = std::fs::read(path).expect("the tests' tokenizer");
    compile(&json).expect("it compiles").as_bytes().to_vec()
});

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    if bytes.byte() % 2 == 1 {
        encode(bytes.0.to_vec(), TEXT);
        return;
    }
    let mut table = SOUND.clone();
    while !bytes.is_empty() {
        let place = bytes.take(3).iter().fold(0, |place, &byte| place << 8 | usize::from(byte));
        if place == 0 {
            break;
        }
        let value = bytes.byte();
        let at = CHECKED_FROM + place % (table.len() - CHECKED_FROM);
        table[at] = value;
    }
    let text = String::from_utf8_lossy(bytes.0).into_owned() + TEXT;
    let sum = xxhash_rust::xxh3::xxh3_64(&table[CHECKED_FROM..]);
    table[CHECKSUM..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
    encode(table, &text);
}

fn encode(table: Vec<u8>, text: &str) {
    let Ok(table) = Table::from_bytes(table) else { return };
    let mut ids = Vec::new();
    Encoder::new(table).encode(text, &mut ids);
    // A token stands for at least a byte, but for what a normalizer adds.
    assert!(ids.len() <= 64 * (text.len() + 64), "{} tokens", ids.len());
}
