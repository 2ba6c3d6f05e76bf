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
//! compiler, so it runs as `wasm32-wasip1` as well. To compare natively and in both builds
//! for the VM, with files of prose, code, JSON and as many scripts as are at hand:
//!
//! ```text
//! cargo run --release -p warmpath-tokenizer --example compare -- record tokenizer.json OUT FILE…
//! for simd in - +; do
//!   RUSTFLAGS="-C target-feature=${simd}simd128" cargo build -p warmpath-tokenizer \
//!     --no-default-features --profile wasm --target wasm32-wasip1 --example compare
//!   wasmtime --dir . target/wasm32-wasip1/wasm/examples/compare.wasm replay OUT
//! done
//! ```
//!
//! (In V8: the same module under `node:wasi`, with `node --no-liftoff`.)

#[cfg(not(target_family = "wasm"))]
#[path = "compare/record.rs"]
mod record;

use std::fs::File;
use std::io::{BufReader, Read};
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
    let table = std::fs::read(out.join("table")).expect("a folder that record wrote");
    let cases = File::open(out.join("cases")).expect("a folder that record wrote");
    let size = table.len();
    let started = Instant::now();
    let table = Table::from_bytes(table).expect("a sound table");
    let ready = started.elapsed();
    let encoder = Encoder::new(table);
    let mut cases = BufReader::new(cases);
    let (mut text, mut expected) = (Vec::new(), Vec::new());
    let mut ids = Vec::new();
    let (mut texts, mut bytes, mut differ) = (0, 0, 0);
    while take(&mut cases, &mut text) && take(&mut cases, &mut expected) {
        let text = std::str::from_utf8(&text).expect("text");
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
    println!(
        "{texts} texts, {bytes} bytes: {differ} differ; table {size} bytes, ready in {ready:?}"
    );
    if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads one length and that many bytes; false at the end.
fn take(cases: &mut impl Read, content: &mut Vec<u8>) -> bool {
    let mut len = [0; 4];
    if cases.read_exact(&mut len).is_err() {
        return false;
    }
    content.resize(u32::from_le_bytes(len) as usize, 0);
    cases.read_exact(content).expect("a whole case");
    true
}
