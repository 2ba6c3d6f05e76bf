//! What a replayed recording showed, and whether that is all as it should be.

use std::fmt;
use std::path::PathBuf;

use crate::events::RankSnapshot;

/// All recordings of one run. Prints itself, a line per request.
#[derive(Debug)]
pub struct Report {
    /// In the order in which they were given.
    pub files: Vec<FileReport>,
}

/// One recording.
#[derive(Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What the event path counted, by subscriber.
    pub streams: Vec<StreamReport>,
    /// The index's own audit.
    pub audit: Result<(), String>,
    /// Every prompt of every request.
    pub requests: Vec<Checked>,
}

/// One subscriber's stream.
#[derive(Debug)]
pub struct StreamReport {
    /// Its name in the recording.
    pub subscriber: String,
    /// What the event path counted.
    pub status: RankSnapshot,
    /// Batches that the engine had published before the recording began, and that
    /// no recorded answer brought.
    pub before: u64,
}

impl StreamReport {
    /// Whether no event of the recording was lost or rejected.
    pub fn is_clean(&self) -> bool {
        let begins_within = |reason: &str| self.before > 0 && reason == "unknown_parent";
        self.status.lost_batches == self.before
            && self.status.rejected.keys().all(|reason| begins_within(reason))
    }
}

/// One prompt, compared.
#[derive(Debug)]
pub struct Checked {
    /// Its line in the file, from 1.
    pub line: usize,
    /// What the recorder said about the request.
    pub note: String,
    /// By subscriber.
    pub overlaps: Vec<Overlap>,
}

/// How much of a prompt one holder has.
#[derive(Debug)]
pub struct Overlap {
    /// The holder, by the name of its stream.
    pub subscriber: String,
    /// What the index says, in blocks.
    pub blocks: u32,
    /// What the recorded events imply.
    pub expected: u32,
    /// How many full blocks the prompt has.
    pub of: u32,
}

impl Report {
    /// Whether every overlap is as expected and no event was lost or rejected.
    pub fn is_clean(&self) -> bool {
        self.files.iter().all(FileReport::is_clean)
    }

    /// Prompts compared, and how many of them agreed.
    pub fn requests(&self) -> (usize, usize) {
        let all = || self.files.iter().flat_map(|file| &file.requests);
        (all().count(), all().filter(|request| request.agrees()).count())
    }
}

impl FileReport {
    /// Whether every overlap is as expected and no event was lost or rejected.
    pub fn is_clean(&self) -> bool {
        self.audit.is_ok()
            && self.requests.iter().all(Checked::agrees)
            && self.streams.iter().all(StreamReport::is_clean)
    }
}

impl Checked {
    /// Whether the index says of every holder what the events imply.
    pub fn agrees(&self) -> bool {
        self.overlaps.iter().all(|overlap| overlap.blocks == overlap.expected)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            write!(formatter, "{file}")?;
        }
        let (requests, agree) = self.requests();
        let verdict = if self.is_clean() { "clean" } else { "NOT CLEAN" };
        writeln!(
            formatter,
            "{} files, {requests} prompts, {agree} overlaps as expected: {verdict}",
            self.files.len()
        )
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.path.display())?;
        for StreamReport { subscriber, status, before } in &self.streams {
            write!(
                formatter,
                "  stream {subscriber}: {} batches, {} events, {} blocks stored, {} removed, \
                 {} clears, {} restarts, {} lost",
                status.batches,
                status.events,
                status.stored_blocks,
                status.removed_blocks,
                status.clears,
                status.restarts,
                status.lost_batches - before,
            )?;
            if *before > 0 {
                write!(formatter, ", {before} before the recording")?;
            }
            for (what, counts) in [("rejected", &status.rejected), ("ignored", &status.ignored)] {
                for (reason, times) in counts {
                    write!(formatter, ", {times} {what} as {reason}")?;
                }
            }
            writeln!(formatter)?;
        }
        for request in &self.requests {
            write!(formatter, "  line {}:", request.line)?;
            for overlap in &request.overlaps {
                let Overlap { subscriber, blocks, expected, of } = overlap;
                write!(formatter, " {subscriber} {blocks}/{of} (expected {expected})")?;
            }
            let verdict = if request.agrees() { "ok" } else { "MISMATCH" };
            writeln!(formatter, " {verdict}: {}", request.note)?;
        }
        match &self.audit {
            Ok(()) => Ok(()),
            Err(problem) => writeln!(formatter, "  index: {problem}"),
        }
    }
}
