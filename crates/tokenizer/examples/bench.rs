//! Speed of a compiled table, natively or in wasm32-wasip1.
//!
//! ```text
//! bench TABLE NAME=FILE…      MB/s on text seen for the first time, by size of text
//! ```
//!
//! Each file is cut into consecutive texts of 1, 8, 64 and 512 KB and each text is
//! encoded once, after a warm-up on another part of the file; then 512 KB of what is
//! meant to be hard, the least of five times; `hard=letters` leaves out the others and
//! takes a hundred, for a profiler. Natively, a further `library=tokenizer.json` times Hugging Face's
//! library on a megabyte of the file named before it.

use std::time::{Duration, Instant};

use warmpath_tokenizer::{Encoder, Table};

const SIZES: [usize; 4] = [1 << 10, 8 << 10, 64 << 10, 512 << 10];

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: bench TABLE NAME=FILE…");
    let bytes = std::fs::read(path).expect("a table");
    let size = bytes.len();
    let started = Instant::now();
    let table = Table::from_bytes(bytes).expect("a sound table");
    println!("table {:.2} MB ready in {:?}", size as f64 / 1e6, started.elapsed());
    let encoder = Encoder::new(table);
    let mut prose = Duration::MAX;
    let mut only = None;
    let mut text = String::new();
    for arg in args {
        let (name, file) = arg.split_once('=').expect("NAME=FILE");
        if name == "hard" {
            only = Some(file.to_owned());
            continue;
        }
        let content = std::fs::read(file).expect("a file");
        if name == "library" {
            library(&content, &text);
            continue;
        }
        text = String::from_utf8_lossy(&content).into_owned();
        let took = fresh(&encoder, name, &text);
        if name == "prose" {
            prose = took;
        }
    }
    hard(&encoder, prose, only.as_deref());
}

/// Times texts of each size; gives the time for 512 KB.
fn fresh(encoder: &Encoder, name: &str, text: &str) -> Duration {
    let mut ids = Vec::new();
    let (warm, rest) = halves(text);
    encoder.encode(warm, &mut ids);
    let mut line = format!("{name:>8}");
    let mut last = Duration::MAX;
    // Each size on text of its own.
    let share = rest.len() / SIZES.len();
    let mut from = 0;
    for size in SIZES {
        let (mut bytes, mut tokens, mut took) = (0, 0, Duration::ZERO);
        let until = rest.len().min(from + share);
        while from < until {
            let end = boundary(rest, (from + size).min(rest.len()));
            ids.clear();
            let started = Instant::now();
            encoder.encode(&rest[from..end], &mut ids);
            took += started.elapsed();
            bytes += end - from;
            tokens += ids.len();
            from = end;
        }
        let per_second = bytes as f64 / took.as_secs_f64() / 1e6;
        line += &format!(
            " | {per_second:6.1} MB/s {:5.1} ns/token",
            took.as_secs_f64() * 1e9 / tokens as f64
        );
        last = took.mul_f64((512 << 10) as f64 / bytes.max(1) as f64);
    }
    println!("{line}");
    last
}

fn halves(text: &str) -> (&str, &str) {
    text.split_at(boundary(text, (512 << 10).min(text.len() / 3)))
}

fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// 512 KB each of what merges badly, against the same amount of prose.
fn hard(encoder: &Encoder, prose: Duration, only: Option<&str>) {
    let size = 512 << 10;
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut of = |alphabet: &str| -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let mut text = String::new();
        while text.len() < size {
            text.push(letters[random(letters.len())]);
        }
        text
    };
    let base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let texts = [
        ("letters", of("abcdefghijklmnopqrstuvwxyz")),
        ("capitals", of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")),
        ("base64", of(base64)),
        ("hex", of("0123456789abcdef")),
        ("ab", of("ab")),
        ("aaaa", "a".repeat(size)),
        ("spaces", " ".repeat(size)),
        ("newlines", "\n".repeat(size)),
        ("====", "=".repeat(size)),
        ("\\n   ", "\n    ".repeat(size / 5)),
        ("<|<|", "<|".repeat(size / 2)),
        ("digits", of("0123456789")),
        (
            "han",
            of(
                "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处理世车",
            ),
        ),
        ("marks", of("\u{301}\u{323}\u{302}a")),
        ("only marks", "\u{301}\u{323}".repeat(size / 4)),
        ("any", of("aé中👍\u{301} \n1.A\u{5d0}\u{1f1e6}")),
    ];
    let mut ids = Vec::new();
    let times = if only.is_some() { 100 } else { 5 };
    for (name, text) in texts {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let took = (0..times).map(|_| {
            ids.clear();
            let started = Instant::now();
            encoder.encode(&text, &mut ids);
            started.elapsed()
        });
        let took = took.min().unwrap_or_default();
        println!(
            "{name:>12} {:7.2} ms {:6} tokens, {:.1} x prose",
            took.as_secs_f64() * 1e3,
            ids.len(),
            took.as_secs_f64() / prose.as_secs_f64()
        );
    }
}

#[cfg(not(target_family = "wasm"))]
fn library(json: &[u8], text: &str) {
    let library = tokenizers::Tokenizer::from_bytes(json).expect("tokenizer.json");
    let (warm, rest) = halves(text);
    library.encode_fast(warm, false).expect("ids");
    let (mut from, mut took) = (0, Duration::ZERO);
    while from < rest.len().min(1 << 20) {
        let end = boundary(rest, (from + (64 << 10)).min(rest.len()));
        let started = Instant::now();
        library.encode_fast(&rest[from..end], false).expect("ids");
        took += started.elapsed();
        from = end;
    }
    println!(" library | {:6.1} MB/s on texts of 64 KB", from as f64 / took.as_secs_f64() / 1e6);
}

#[cfg(target_family = "wasm")]
fn library(_: &[u8], _: &str) {
    println!("library: native only");
}
