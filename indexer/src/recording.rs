/*!
Recordings of engines, replayed through the event path and checked.

`warmpath-indexer replay FILE…` answers the question that matters most when
routing looks wrong: does the index hold what the engine said? A recording is
JSON lines, one object each, in order of arrival: published messages with every
frame in hex, requests with the token ids that the engine made of them, answers
of the replay socket. The messages go through [`Applier`], and after each request
the index's overlap is compared with what `model` makes of the same messages.
The model shares no code with the path that it checks: it decodes by serde, and
chains blocks by the engine's own hashes instead of local ones.

Where a recording begins in the middle of a stream, the recorded answers of the
replay socket fill the gap, as they would have; without any, what came before the
recording is not a loss, and neither are chains that begin in it.
*/

mod model;
mod read;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use warmpath_blocks::{local_hashes, seed};
use warmpath_radix::{Holder, Index, WorkerId};

use crate::events::{Applier, RankStatus, Source, Verdict};

pub use model::{Batch, Model};
pub use read::{Line, Recording, RecordingError, Request};
pub use report::{Checked, FileReport, Overlap, Report, StreamReport};

/// Replays each recording into an index of its own and compares.
///
/// `block_size` is what the configuration would declare; without it, the events
/// teach it. Only a file that cannot be read is an error; what is wrong with its
/// contents is in the report.
pub fn replay_files(paths: &[PathBuf], block_size: Option<u32>) -> Result<Report, RecordingError> {
    let files = paths.iter().map(|path| replay_file(path, block_size));
    Ok(Report { files: files.collect::<Result<_, _>>()? })
}

fn replay_file(path: &Path, block_size: Option<u32>) -> Result<FileReport, RecordingError> {
    let recording = Recording::read(path)?;
    let mut stage = Stage::new(&recording, block_size);
    let mut requests = Vec::new();
    for (number, line) in &recording.lines {
        match line {
            Line::Published { subscriber, frames } => stage.publish(subscriber, frames),
            Line::Request(request) => {
                for tokens in &request.prompts {
                    requests.push(stage.check(*number, request, tokens));
                }
            }
            Line::Replayed { .. } => {}
        }
    }
    let streams = stage.streams.into_iter().map(|(name, stream)| StreamReport {
        subscriber: name,
        status: stream.status.snapshot(),
        before: stream.before,
    });
    Ok(FileReport {
        path: path.to_owned(),
        streams: streams.collect(),
        audit: stage.index.audit(),
        requests,
    })
}

/// One subscriber's stream, twice: as the indexer takes it and as the model does.
struct Stream {
    holder: Holder,
    applier: Applier,
    status: Arc<RankStatus>,
    model: Model,
    /// Batches that the engine had published before the recording began.
    before: u64,
}

struct Stage<'a> {
    recording: &'a Recording,
    index: Arc<Index>,
    streams: BTreeMap<String, Stream>,
}

impl<'a> Stage<'a> {
    fn new(recording: &'a Recording, block_size: Option<u32>) -> Self {
        let index = Arc::new(Index::new());
        let ranks = recording.ranks();
        let streams = recording.subscribers().into_iter().enumerate().map(|(at, name)| {
            // Subscribers "dp0", "dp1" … are ranks of one worker, others are workers.
            let holder = match read::rank(&name) {
                Some(rank) => Holder { worker: WorkerId(u32::MAX), rank },
                None => Holder { worker: WorkerId(at as u32), rank: 0 },
            };
            let source = Source {
                worker_name: name.clone(),
                holder,
                ranks: if read::rank(&name).is_some() { ranks } else { 1 },
                endpoint: String::new(),
                replay: None,
                bind: false,
                topic: String::new(),
                block_size,
            };
            let status = Arc::new(RankStatus::new());
            let applier = Applier::new(&source, index.clone(), status.clone());
            (name, Stream { holder, applier, status, model: Model::default(), before: 0 })
        });
        Self { recording, streams: streams.collect(), index }
    }

    fn publish(&mut self, subscriber: &str, frames: &[Vec<u8>]) {
        let Some(stream) = self.streams.get_mut(subscriber) else { return };
        let Some((seq, payload)) = stream.applier.split(frames) else { return };
        let mut verdict = stream.applier.offer(seq, payload);
        if verdict == Verdict::Restarted {
            verdict = stream.applier.offer(seq, payload);
        }
        if let Verdict::Gap { from, until } = verdict {
            for (seq, payload) in self.recording.answers(from, until, payload) {
                if stream.applier.offer(seq, payload) == Verdict::Applied {
                    stream.model.apply(seq, payload);
                }
            }
            if stream.applier.offer(seq, payload) != Verdict::Applied {
                if stream.applier.last().is_none() {
                    stream.before = seq;
                }
                stream.applier.apply_after_loss(seq, payload);
            }
        }
        stream.model.apply(seq, payload);
    }

    fn check(&self, line: usize, request: &Request, tokens: &[u32]) -> Checked {
        let adapter = Some(request.model.as_str())
            .filter(|model| self.streams.values().any(|stream| stream.model.knows_adapter(model)));
        let salt = request.cache_salt.as_deref();
        let overlaps = self.streams.iter().map(|(name, stream)| {
            let block_size = stream.status.snapshot().block_size.unwrap_or(0);
            let hashes = local_hashes(tokens, block_size as usize, seed(adapter, salt));
            let found = self.index.find_matches(&hashes);
            let found = found.iter().find(|found| found.holder == stream.holder);
            Overlap {
                subscriber: name.clone(),
                blocks: found.map_or(0, |found| found.blocks),
                expected: stream.model.overlap(tokens, adapter, salt),
                of: hashes.len() as u32,
            }
        });
        Checked { line, note: request.note.clone(), overlaps: overlaps.collect() }
    }
}

#[cfg(test)]
mod tests;
