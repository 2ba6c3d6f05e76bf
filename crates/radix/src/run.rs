//! Where blocks lie: runs of local hashes, and places, which are their addresses.
//!
//! A run is a piece of chain as it was stored. It is cut into nodes where chains
//! part and never moved, so a place stays good through every split and merge of
//! nodes, and no holder's table is touched by another's events. Handles of the form
//! (node, offset) were rejected for that: a split makes all those behind it stale,
//! to be found and mended one by one.
//!
//! A place is 32 bits: runs get their addresses in chunks of 32. The addresses end
//! after 2^27 chunks, which is some 36 GB of index.

use crate::table::NOWHERE;
use crate::tree::NodeId;

/// Address of a block.
pub(crate) type Place = u32;

/// Position of a run in the slab.
pub(crate) type RunId = u32;

/// The run of the root, which has no blocks.
pub(crate) const NO_RUN: RunId = RunId::MAX;

const CHUNK: u32 = 32;
/// The last chunk is never given out: it has the place that means nowhere.
const CHUNKS: usize = (NOWHERE / CHUNK) as usize;

#[derive(Debug, Default)]
pub(crate) struct Run {
    locals: Vec<u64>,
    /// Its addresses, `CHUNK` to each.
    chunks: Vec<u32>,
    /// Start of each of its nodes, in order.
    cuts: Vec<(u32, NodeId)>,
    /// The seed of its first store. Whoever stores under another one remembers it.
    pub(crate) seed: u64,
}

/// Which run has the addresses of a chunk, and its position in that run.
#[derive(Copy, Clone, Debug)]
struct Chunk {
    run: RunId,
    position: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    free: Vec<RunId>,
    chunks: Vec<Chunk>,
    free_chunks: Vec<u32>,
    blocks: usize,
}

impl Run {
    pub(crate) fn len(&self) -> u32 {
        self.locals.len() as u32
    }

    pub(crate) fn locals(&self, start: u32, len: u32) -> &[u64] {
        &self.locals[start as usize..(start + len) as usize]
    }

    pub(crate) fn place(&self, at: u32) -> Place {
        self.chunks[(at / CHUNK) as usize] * CHUNK + at % CHUNK
    }

    pub(crate) fn cuts(&self) -> &[(u32, NodeId)] {
        &self.cuts
    }

    /// Says that a node begins at `start`, another one or a new one.
    pub(crate) fn cut(&mut self, start: u32, node: NodeId) {
        match self.cuts.binary_search_by_key(&start, |cut| cut.0) {
            Ok(at) => self.cuts[at].1 = node,
            Err(at) => self.cuts.insert(at, (start, node)),
        }
    }

    /// Says that no node begins at `start` any more.
    pub(crate) fn heal(&mut self, start: u32) {
        if let Ok(at) = self.cuts.binary_search_by_key(&start, |cut| cut.0) {
            self.cuts.remove(at);
        }
    }
}

impl Runs {
    pub(crate) fn run(&self, id: RunId) -> &Run {
        &self.runs[id as usize]
    }

    pub(crate) fn run_mut(&mut self, id: RunId) -> &mut Run {
        &mut self.runs[id as usize]
    }

    /// Blocks in all runs.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(crate) fn add(&mut self, seed: u64) -> RunId {
        let run = Run { seed, ..Run::default() };
        if let Some(id) = self.free.pop() {
            self.runs[id as usize] = run;
            return id;
        }
        self.runs.push(run);
        (self.runs.len() - 1) as RunId
    }

    /// Makes a run longer.
    pub(crate) fn append(&mut self, id: RunId, locals: impl ExactSizeIterator<Item = u64>) {
        let run = &mut self.runs[id as usize];
        let spare = run.locals.capacity() - run.locals.len();
        if spare < locals.len() {
            // A new run fits; one that grows leaves an eighth.
            let room = if run.locals.is_empty() { 0 } else { 4 + run.locals.len() / 8 };
            run.locals.reserve_exact(locals.len().max(room));
        }
        self.blocks += locals.len();
        run.locals.extend(locals);
        let needed = run.locals.len().div_ceil(CHUNK as usize);
        run.chunks.reserve_exact(needed.saturating_sub(run.chunks.len()));
        for position in run.chunks.len()..needed {
            let chunk = Chunk { run: id, position: position as u32 };
            let number = match self.free_chunks.pop() {
                Some(number) => {
                    self.chunks[number as usize] = chunk;
                    number
                }
                None => {
                    assert!(self.chunks.len() < CHUNKS, "the index is beyond its 2^32 addresses");
                    self.chunks.push(chunk);
                    (self.chunks.len() - 1) as u32
                }
            };
            run.chunks.push(number);
        }
    }

    /// Makes a run shorter. One without blocks is free; its cuts are then the
    /// caller's to forget first.
    pub(crate) fn truncate(&mut self, id: RunId, len: u32) {
        let run = &mut self.runs[id as usize];
        self.blocks -= run.locals.len() - len as usize;
        run.locals.truncate(len as usize);
        let needed = len.div_ceil(CHUNK) as usize;
        for number in run.chunks.drain(needed..) {
            self.chunks[number as usize].run = NO_RUN;
            self.free_chunks.push(number);
        }
        if len == 0 {
            *run = Run::default();
            self.free.push(id);
        } else if run.locals.capacity() > 2 * run.locals.len() + 16 {
            run.locals.shrink_to(run.locals.len() + run.locals.len() / 8);
            run.chunks.shrink_to_fit();
        }
    }

    /// The run of a place, and the position in it. A place that was given up may
    /// have become another run's; none where it is nobody's.
    pub(crate) fn locate(&self, place: Place) -> Option<(RunId, u32)> {
        let chunk = self.chunks.get((place / CHUNK) as usize)?;
        (chunk.run != NO_RUN).then(|| (chunk.run, chunk.position * CHUNK + place % CHUNK))
    }

    /// The node of a place and the offset in it.
    pub(crate) fn node(&self, place: Place) -> Option<(NodeId, u32)> {
        let (run, at) = self.locate(place)?;
        let cuts = &self.run(run).cuts;
        let cut = cuts.partition_point(|cut| cut.0 <= at).checked_sub(1)?;
        Some((cuts[cut].1, at - cuts[cut].0))
    }

    /// The first contradiction among runs, chunks and the free lists.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let (mut blocks, mut chunks) = (0, 0);
        for (id, run) in self.runs.iter().enumerate() {
            blocks += run.locals.len();
            chunks += run.chunks.len();
            if run.chunks.len() != run.locals.len().div_ceil(CHUNK as usize) {
                return Err(format!("run {id} has not the addresses for its blocks"));
            }
            for (position, &number) in run.chunks.iter().enumerate() {
                let chunk = self.chunks[number as usize];
                if (chunk.run as usize, chunk.position as usize) != (id, position) {
                    return Err(format!("chunk {number} does not know its run {id}"));
                }
            }
        }
        let unused = self.runs.iter().filter(|run| run.locals.is_empty()).count();
        if blocks != self.blocks || unused != self.free.len() {
            return Err(format!("{} blocks in runs, which hold {blocks}", self.blocks));
        }
        if chunks + self.free_chunks.len() != self.chunks.len() {
            return Err(format!("{chunks} of {} chunks are used", self.chunks.len()));
        }
        Ok(())
    }
}
