//! What one process measures of one engine: natively, or in a wasm VM.

use std::path::Path;
use std::time::Duration;
#[cfg(target_family = "wasm")]
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::engines::{self, Encode, Engine};
use crate::turns::{self, Turns};

/// Sizes of texts, and how many of each.
const SIZES: [(usize, usize); 4] = [(1 << 10, 128), (8 << 10, 32), (64 << 10, 4), (512 << 10, 1)];
/// Text of the same kind that each engine sees first.
const WARM_UP: usize = 192 << 10;

/// One measurement, or why there is none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) error: Option<String>,
    pub(crate) load_ms: f64,
    /// What the process grew by while loading; in wasm, its linear memory is reported
    /// by who runs it.
    pub(crate) memory_mb: f64,
    pub(crate) texts: Vec<Texts>,
    pub(crate) hard: Vec<Hard>,
    pub(crate) turns: Option<Turns>,
}

/// Texts of one kind and size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Texts {
    pub(crate) kind: String,
    pub(crate) bytes: usize,
    /// A text seen for the first time, on average.
    pub(crate) cold_us: f64,
    /// The same text again.
    pub(crate) warm_us: f64,
    pub(crate) cold_mb_per_s: f64,
    pub(crate) warm_mb_per_s: f64,
    pub(crate) tokens: usize,
    /// Of the ids, to tell whether engines agree.
    pub(crate) digest: u64,
}

/// One adversarial text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hard {
    pub(crate) name: String,
    pub(crate) ms: f64,
    pub(crate) tokens: usize,
    pub(crate) digest: u64,
}

/// Measures `engine` on what lies in `folder`.
pub(crate) fn measure(engine: Engine, folder: &Path) -> Figures {
    all(engine, folder)
        .unwrap_or_else(|error| Figures { error: Some(format!("{error:#}")), ..Figures::default() })
}

fn all(engine: Engine, folder: &Path) -> Result<Figures> {
    let (before, start) = (memory(), Clock::now());
    let encode = engines::load(engine, folder)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let memory_mb = (memory() - before) as f64 / 1e6;
    let mut texts = Vec::new();
    for (kind, text) in files(&folder.join("texts"))? {
        of_kind(&encode, &kind, &text, &mut texts);
    }
    let hard = files(&folder.join("hard"))?.into_iter().map(|(name, text)| {
        let mut ids = Vec::new();
        let start = Clock::now();
        encode(&text, &mut ids);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        Hard { name, ms, tokens: ids.len(), digest: digest(&ids) }
    });
    let hard = hard.collect();
    drop(encode);
    let turns = turns::measure(engine, folder)?;
    Ok(Figures { error: None, load_ms, memory_mb, texts, hard, turns })
}

/// Name without ending and content, by name.
fn files(folder: &Path) -> Result<Vec<(String, String)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(&path)?));
    }
    files.sort_unstable();
    Ok(files)
}

fn of_kind(encode: &Encode, kind: &str, text: &str, into: &mut Vec<Texts>) {
    let mut ids = Vec::new();
    let (warm_up, mut rest) = cut(text, WARM_UP);
    encode(warm_up, &mut ids);
    for (bytes, count) in SIZES {
        let mut texts = Vec::new();
        while texts.len() < count && rest.len() >= bytes {
            let (text, more) = cut(rest, bytes);
            texts.push(text);
            rest = more;
        }
        ids.clear();
        let mut once = || {
            let from = ids.len();
            let start = Clock::now();
            texts.iter().for_each(|text| encode(text, &mut ids));
            (start.elapsed(), ids.len() - from)
        };
        let ((cold, tokens), (warm, _)) = (once(), once());
        let of = |time: Duration| time.as_secs_f64() * 1e6 / texts.len().max(1) as f64;
        let total: usize = texts.iter().map(|text| text.len()).sum();
        let speed = |time: Duration| total as f64 / time.as_secs_f64().max(1e-9) / 1e6;
        into.push(Texts {
            kind: kind.to_owned(),
            bytes,
            cold_us: of(cold),
            warm_us: of(warm),
            cold_mb_per_s: speed(cold),
            warm_mb_per_s: speed(warm),
            tokens,
            digest: digest(&ids[..tokens]),
        });
    }
}

/// The first `bytes` of a text, and a little more where a character needs it.
fn cut(text: &str, bytes: usize) -> (&str, &str) {
    let mut at = bytes.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    text.split_at(at)
}

fn digest(ids: &[u32]) -> u64 {
    ids.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &id| {
        (hash ^ u64::from(id)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Processor time of the whole process, where there is such a clock.
pub(crate) struct Clock(
    #[cfg(not(target_family = "wasm"))] Duration,
    #[cfg(target_family = "wasm")] Instant,
);

impl Clock {
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }

    /// Who runs the VM lets this clock tell processor time.
    #[cfg(target_family = "wasm")]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Bytes of this process that are resident; linear memory in wasm.
fn memory() -> i64 {
    #[cfg(target_family = "wasm")]
    return core::arch::wasm32::memory_size(0) as i64 * 65_536;
    #[cfg(not(target_family = "wasm"))]
    {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok());
        pages.unwrap_or(0) * 4096
    }
}
