//! Holds compiled tables against Hugging Face's library on thousands of texts.
//!
//! ```text
//! compare record tokenizer.json OUT [TEXT FILE…]   compile, generate texts, compare, keep
//! compare replay OUT                                compare again: in wasm, under another build
//! ```
//!
//! `record` cuts the given files into texts, adds generated ones (mixed fragments, the
//! tokenizer's own special tokens, every Unicode scalar value in three contexts, long
//! runs) and writes `OUT/table` and `OUT/cases`; `replay` needs neither library nor
//! compiler, so it runs as `wasm32-wasip1` as well.

#[cfg(not(target_family = "wasm"))]
#[path = "compare/record.rs"]
mod record;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use warmpath_tokenizer::{Encoder, Table};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        #[cfg(not(target_family = "wasm"))]
        ["record", json, out, files @ ..] => record::record(json, out, files),
        ["replay", out] => replay(Path::new(out)),
        _ => {
            eprintln!("usage: compare record TOKENIZER.JSON OUT [FILE…] | compare replay OUT");
            ExitCode::FAILURE
        }
    }
}

fn replay(out: &Path) -> ExitCode {
    let read = |name| std::fs::read(out.join(name)).expect("a folder that record wrote");
    let (table, cases) = (read("table"), read("cases"));
    let size = table.len();
    let started = Instant::now();
    let table = Table::from_bytes(table).expect("a sound table");
    let ready = started.elapsed();
    let encoder = Encoder::new(table);
    let mut cases = cases.as_slice();
    let mut ids = Vec::new();
    let (mut texts, mut bytes, mut differ) = (0, 0, 0);
    while !cases.is_empty() {
        let text = take(&mut cases);
        let text = std::str::from_utf8(text).expect("text");
        let expected = take(&mut cases);
        ids.clear();
        encoder.encode(text, &mut ids);
        texts += 1;
        bytes += text.len();
        let same = ids.iter().flat_map(|id| id.to_le_bytes()).eq(expected.iter().copied());
        if !same {
            differ += 1;
            if differ <= 3 {
                println!("differs: {:?}", text.chars().take(80).collect::<String>());
            }
        }
    }
    println!("{texts} texts, {bytes} bytes: {differ} differ; table {size} bytes, ready in {ready:?}");
    if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn take<'c>(cases: &mut &'c [u8]) -> &'c [u8] {
    let (len, rest) = cases.split_first_chunk::<4>().expect("a length");
    let (content, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
    *cases = rest;
    content
}
