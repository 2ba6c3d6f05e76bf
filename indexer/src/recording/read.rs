//! Reading a recording: JSON lines of an engine's wire, in order of arrival.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Batch;

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file could not be opened or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not what recordings consist of.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A recording, in memory.
#[derive(Debug)]
pub struct Recording {
    /// Its lines that matter here, each with its number from 1.
    pub lines: Vec<(usize, Line)>,
}

/// A line of a recording.
#[derive(Debug)]
pub enum Line {
    /// A message that a subscriber received.
    Published {
        /// Which subscriber: which worker or rank.
        subscriber: String,
        /// Its frames.
        frames: Vec<Vec<u8>>,
    },
    /// A message that came from the replay socket.
    Replayed {
        /// Its frames.
        frames: Vec<Vec<u8>>,
    },
    /// A request that had finished, its events before it.
    Request(Request),
}

/// What matters of a recorded request.
#[derive(Debug)]
pub struct Request {
    /// What the recorder said about it.
    pub note: String,
    /// The model that it asked for: the base model or an adapter.
    pub model: String,
    /// Its cache salt.
    pub cache_salt: Option<String>,
    /// The token ids of each of its prompts.
    pub prompts: Vec<Vec<u32>>,
    /// How many of them the engine said it had cached, in its answer's usage.
    pub cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Raw {
    k: String,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    frames: Vec<String>,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    body: serde_json::Value,
    #[serde(default)]
    resp: serde_json::Value,
    #[serde(default)]
    token_ids: Option<TokenIds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(Vec<u32>),
    Many(Vec<Vec<u32>>),
}

impl Recording {
    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecordingError::File { path: path.to_owned(), source })?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let lines = lines.map(|(at, line)| {
            let parsed = parse(line).map_err(|problem| RecordingError::Line {
                path: path.to_owned(),
                line: at + 1,
                problem,
            })?;
            Ok(parsed.map(|line| (at + 1, line)))
        });
        Ok(Self { lines: lines.filter_map(Result::transpose).collect::<Result<_, _>>()? })
    }

    /// Every subscriber that received something.
    pub fn subscribers(&self) -> BTreeSet<String> {
        let names = self.lines.iter().filter_map(|(_, line)| match line {
            Line::Published { subscriber, .. } => Some(subscriber.clone()),
            _ => None,
        });
        names.collect()
    }

    /// How many ranks the subscribers that are ranks make up.
    pub(super) fn ranks(&self) -> u32 {
        let ranks = self.subscribers().iter().filter_map(|name| rank(name)).max();
        ranks.map_or(1, |highest| highest.saturating_add(1))
    }

    /// Recorded answers of the replay socket that stand for the batches from `from`
    /// to before `until`, in order: those of the same rank that the engine made
    /// before `live`, and if several lives of it are recorded, of the last.
    pub(super) fn answers(&self, from: u64, until: u64, live: &[u8]) -> Vec<(u64, &[u8])> {
        let Some(live) = Batch::read(live) else { return Vec::new() };
        let mut answers: Vec<(u64, f64, &[u8])> = Vec::new();
        for (_, line) in &self.lines {
            let Line::Replayed { frames } = line else { continue };
            let [.., seq, payload] = frames.as_slice() else { continue };
            let Ok(seq) = <[u8; 8]>::try_from(seq.as_slice()).map(u64::from_be_bytes) else {
                continue;
            };
            let Some(batch) = Batch::read(payload) else { continue };
            let known = answers.iter().position(|&(known, ..)| known == seq);
            if (from..until).contains(&seq) && batch.time < live.time && batch.rank == live.rank {
                match known {
                    Some(at) if answers[at].1 < batch.time => {
                        answers[at] = (seq, batch.time, payload);
                    }
                    Some(_) => {}
                    None => answers.push((seq, batch.time, payload)),
                }
            }
        }
        answers.sort_unstable_by_key(|&(seq, ..)| seq);
        answers.into_iter().map(|(seq, _, payload)| (seq, payload)).collect()
    }
}

/// The rank that a subscriber's name stands for: "dp3" is rank 3.
pub(super) fn rank(subscriber: &str) -> Option<u32> {
    subscriber.strip_prefix("dp")?.parse().ok()
}

fn parse(line: &str) -> Result<Option<Line>, String> {
    let raw: Raw = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let frames = || raw.frames.iter().map(|frame| unhex(frame)).collect::<Result<Vec<_>, _>>();
    Ok(match raw.k.as_str() {
        "ev" => Some(Line::Published {
            subscriber: raw.sub.clone().unwrap_or_default(),
            frames: frames()?,
        }),
        "replay_rep" => Some(Line::Replayed { frames: frames()? }),
        "req" => raw.token_ids.map(|tokens| {
            let text = |field: &str| raw.body.get(field)?.as_str().map(str::to_owned);
            Line::Request(Request {
                note: raw.note.unwrap_or_default(),
                model: text("model").unwrap_or_default(),
                cache_salt: text("cache_salt"),
                prompts: match tokens {
                    TokenIds::One(ids) => vec![ids],
                    TokenIds::Many(prompts) => prompts,
                },
                cached_tokens: raw
                    .resp
                    .pointer("/usage/prompt_tokens_details/cached_tokens")
                    .and_then(serde_json::Value::as_u64),
            })
        }),
        _ => None,
    })
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or_else(|| "a frame is not hexadecimal".to_owned())?;
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
