//! Where blocks lie: runs of local hashes, and places, which are their addresses.
//!
//! A run is a piece of chain as it was stored. It is cut into nodes where chains
//! part and never moved, so a place stays good through every split and merge of
//! nodes, and no holder's table is touched by another's events. Handles of the form
//! (node, offset) were rejected for that: a split makes all those behind it stale,
//! to be found and mended one by one.
//!
//! A place is 32 bits: runs get their addresses in chunks of 32. Each whole chunk of
//! a run has a digest, by which a query compares 32 hashes and reads one.

use crate::slab::Slab;
use crate::table::NOWHERE;
use crate::tree::NodeId;

/// Address of a block.
pub(crate) type Place = u32;

/// Position of a run in the slab.
pub(crate) type RunId = u32;

/// The run of the root, which has no blocks.
pub(crate) const NO_RUN: RunId = RunId::MAX;

pub(crate) const CHUNK: u32 = 32;
/// The last chunk is never given out: it has the place that means nowhere.
const CHUNKS: usize = (NOWHERE / CHUNK) as usize;

#[derive(Debug, Default)]
pub(crate) struct Run {
    locals: Vec<u64>,
    segments: Vec<Segment>,
    /// The node of its first block.
    first: NodeId,
    /// Start of each further node, in order.
    cuts: Vec<(u32, NodeId)>,
    /// The seed of its first store; none while it is predicted only. Whoever stores
    /// under another one remembers it.
    pub(crate) seed: Option<u64>,
}

/// Up to `CHUNK` blocks.
#[derive(Copy, Clone, Debug)]
struct Segment {
    chunk: u32,
    /// Of its local hashes once it is full; two halves, to be 12 bytes with the chunk.
    digest: [u32; 2],
}

/// Which run has the addresses of a chunk, and its position in that run.
#[derive(Copy, Clone, Debug)]
struct Chunk {
    run: RunId,
    position: u32,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { run: NO_RUN, position: 0 }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Slab<Run>,
    chunks: Slab<Chunk>,
    blocks: usize,
    /// Heap of the runs' vectors.
    bytes: usize,
}

/// What a chunk is summed in: as many sums as vector registers take in at once.
const LANES: usize = 8;

/// Odd, and without pattern.
const FACTORS: [u64; LANES] = {
    let (mut factors, mut state, mut at) = ([0; LANES], 0_u64, 0);
    while at < factors.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        factors[at] = (mixed ^ (mixed >> 31)) | 1;
        at += 1;
    }
    factors
};

/// One number for a chunk of local hashes, each weighed by its place. Local hashes are as
/// good as random, so two different chunks agree as seldom as two different blocks.
fn digest(locals: &[u64; CHUNK as usize]) -> [u32; 2] {
    let (rows, _) = locals.as_chunks::<LANES>();
    let mut sums = [0_u64; LANES];
    for row in rows {
        for (sum, local) in sums.iter_mut().zip(row) {
            // Nine times by a shift, which there is for vectors.
            *sum = sum.wrapping_add(*sum << 3).wrapping_add(*local);
        }
    }
    let sum = sums
        .iter()
        .zip(&FACTORS)
        .fold(0_u64, |all, (sum, factor)| all.wrapping_add(sum.wrapping_mul(*factor)));
    [sum as u32, (sum >> 32) as u32]
}

impl Run {
    pub(crate) fn len(&self) -> u32 {
        self.locals.len() as u32
    }

    pub(crate) fn locals(&self, start: u32, len: u32) -> &[u64] {
        &self.locals[start as usize..(start + len) as usize]
    }

    pub(crate) fn place(&self, at: u32) -> Place {
        self.segments[(at / CHUNK) as usize].chunk * CHUNK + at % CHUNK
    }

    /// How many leading hashes of `query` are those of the `len` blocks from `start` on.
    pub(crate) fn leading(&self, start: u32, len: u32, query: &[u64]) -> usize {
        let len = (len as usize).min(query.len());
        let (start, query) = (start as usize, &query[..len]);
        let chunk = CHUNK as usize;
        // The query falls into what comes before the first whole chunk, whole chunks,
        // and the rest.
        let before = (start.next_multiple_of(chunk) - start).min(len);
        let same = common(&self.locals[start..start + before], query);
        if same < before {
            return same;
        }
        let (wholes, _) = query[before..].as_chunks();
        let segments = &self.segments[(start + before) / chunk..];
        let same = whole_chunks(wholes, segments);
        let done = before + same * chunk;
        done + common(&self.locals[start + done..start + len], &query[done..])
    }

    /// The node of a position, and where it starts.
    fn node(&self, at: u32) -> (NodeId, u32) {
        match self.cuts.partition_point(|cut| cut.0 <= at).checked_sub(1) {
            Some(cut) => (self.cuts[cut].1, self.cuts[cut].0),
            None => (self.first, 0),
        }
    }

    fn heap(&self) -> usize {
        self.locals.capacity() * size_of::<u64>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.cuts.capacity() * size_of::<(u32, NodeId)>()
    }
}

/// How many leading chunks of a query are those of a run.
///
/// Long queries are read at several pages at once: memory fetches ahead within a page
/// but not beyond it.
fn whole_chunks(wholes: &[[u64; CHUNK as usize]], segments: &[Segment]) -> usize {
    const PAGE: usize = 4096 / (CHUNK as usize * size_of::<u64>());
    let differs = |chunk: usize| digest(&wholes[chunk]) != segments[chunk].digest;
    let mut done = 0;
    for pages in [4, 2] {
        while wholes.len() - done >= pages * PAGE {
            let mut first = pages * PAGE;
            for at in 0..PAGE {
                for chunk in (0..pages).map(|page| page * PAGE + at) {
                    if differs(done + chunk) {
                        first = first.min(chunk);
                    }
                }
                if first <= at {
                    break;
                }
            }
            done += first;
            if first < pages * PAGE {
                return done;
            }
        }
    }
    done + (done..wholes.len()).take_while(|&chunk| !differs(chunk)).count()
}

/// How many leading elements two slices share.
fn common(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Runs {
    pub(crate) fn run(&self, id: RunId) -> &Run {
        self.runs.get(id)
    }

    pub(crate) fn run_mut(&mut self, id: RunId) -> &mut Run {
        self.runs.get_mut(id)
    }

    /// Blocks in all runs.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(crate) fn heap(&self) -> usize {
        self.runs.heap() + self.chunks.heap() + self.bytes
    }

    /// Whether there are addresses for that many blocks more, however they are cut.
    pub(crate) fn has_room(&self, blocks: usize) -> bool {
        self.chunks.used() + blocks / CHUNK as usize + 2 < CHUNKS
    }

    pub(crate) fn add(&mut self, seed: Option<u64>) -> RunId {
        self.runs.insert(Run { seed, ..Run::default() })
    }

    /// Says that a node begins at `start`, another one or a new one.
    pub(crate) fn cut(&mut self, id: RunId, start: u32, node: NodeId) {
        let run = self.runs.get_mut(id);
        if start == 0 {
            run.first = node;
            return;
        }
        match run.cuts.binary_search_by_key(&start, |cut| cut.0) {
            Ok(at) => run.cuts[at].1 = node,
            Err(at) => {
                let before = run.cuts.capacity();
                if run.cuts.len() == before {
                    run.cuts.reserve_exact(1 + before / 4);
                }
                run.cuts.insert(at, (start, node));
                self.bytes += (run.cuts.capacity() - before) * size_of::<(u32, NodeId)>();
            }
        }
    }

    /// Says that no node begins at `start` any more.
    pub(crate) fn heal(&mut self, id: RunId, start: u32) {
        let run = self.runs.get_mut(id);
        if let Ok(at) = run.cuts.binary_search_by_key(&start, |cut| cut.0) {
            run.cuts.remove(at);
            let before = run.cuts.capacity();
            if run.cuts.len() * 2 < before {
                run.cuts.shrink_to_fit();
                self.bytes -= (before - run.cuts.capacity()) * size_of::<(u32, NodeId)>();
            }
        }
    }

    /// Makes a run longer, by `ahead` more in the next calls; [`Self::has_room`] must have said
    /// that it can be.
    pub(crate) fn append(
        &mut self,
        id: RunId,
        locals: impl ExactSizeIterator<Item = u64>,
        ahead: usize,
    ) {
        let run = self.runs.get_mut(id);
        let before = run.heap();
        let spare = run.locals.capacity() - run.locals.len();
        if spare < locals.len() {
            // A new run fits; one that grows leaves an eighth.
            let room = if run.locals.is_empty() { 0 } else { 4 + run.locals.len() / 8 };
            run.locals.reserve_exact((locals.len() + ahead).max(room));
        }
        let old = run.locals.len() / CHUNK as usize;
        self.blocks += locals.len();
        run.locals.extend(locals);
        let needed = run.locals.len().div_ceil(CHUNK as usize);
        if run.segments.capacity() < needed {
            let room = if run.segments.is_empty() { 0 } else { 1 + run.segments.len() / 8 };
            let all = (run.locals.len() + ahead).div_ceil(CHUNK as usize);
            run.segments.reserve_exact((all - run.segments.len()).max(room));
        }
        for position in run.segments.len()..needed {
            let chunk = self.chunks.insert(Chunk { run: id, position: position as u32 });
            run.segments.push(Segment { chunk, digest: [0; 2] });
        }
        let (wholes, _) = run.locals.as_chunks();
        for (segment, whole) in run.segments.iter_mut().zip(wholes).skip(old) {
            segment.digest = digest(whole);
        }
        self.bytes = self.bytes + run.heap() - before;
    }

    /// Makes a run shorter. One without blocks is free.
    pub(crate) fn truncate(&mut self, id: RunId, len: u32) {
        let run = self.runs.get_mut(id);
        let before = run.heap();
        self.blocks -= run.locals.len() - len as usize;
        run.locals.truncate(len as usize);
        let needed = len.div_ceil(CHUNK) as usize;
        for segment in run.segments.drain(needed..) {
            self.chunks.remove(segment.chunk);
        }
        if len == 0 {
            self.bytes -= before;
            self.runs.remove(id);
            return;
        }
        if run.locals.capacity() > 2 * run.locals.len() + 16 {
            run.locals.shrink_to(run.locals.len() + run.locals.len() / 8);
            run.segments.shrink_to_fit();
        }
        self.bytes = self.bytes + run.heap() - before;
    }

    /// The run of a place, and the position in it. A place that was given up may
    /// have become another run's; none where it is nobody's.
    pub(crate) fn locate(&self, place: Place) -> Option<(RunId, u32)> {
        let chunk = self.chunks.find(place / CHUNK)?;
        let at = chunk.position * CHUNK + place % CHUNK;
        (chunk.run != NO_RUN && at < self.run(chunk.run).len()).then_some((chunk.run, at))
    }

    /// The node of a place and the offset in it.
    pub(crate) fn node(&self, place: Place) -> Option<(NodeId, u32)> {
        let (run, at) = self.locate(place)?;
        let (node, start) = self.run(run).node(at);
        Some((node, at - start))
    }

    /// Whether a run knows that this node begins there.
    pub(crate) fn knows(&self, id: RunId, start: u32, node: NodeId) -> bool {
        self.run(id).node(start) == (node, start)
    }

    /// The first contradiction among runs, chunks and the free lists.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let (mut blocks, mut chunks, mut bytes, mut used) = (0, 0, 0, 0);
        for (id, run) in self.runs.iter() {
            blocks += run.locals.len();
            chunks += run.segments.len();
            bytes += run.heap();
            used += usize::from(!run.locals.is_empty());
            if run.segments.len() != run.locals.len().div_ceil(CHUNK as usize) {
                return Err(format!("run {id} has not the addresses for its blocks"));
            }
            for (position, segment) in run.segments.iter().enumerate() {
                let chunk = self.chunks.get(segment.chunk);
                if (chunk.run, chunk.position as usize) != (id, position) {
                    return Err(format!("chunk {} does not know its run {id}", segment.chunk));
                }
            }
            let (wholes, _) = run.locals.as_chunks();
            if !wholes.iter().zip(&run.segments).all(|(all, one)| digest(all) == one.digest) {
                return Err(format!("a digest of run {id} is not that of its hashes"));
            }
        }
        if blocks != self.blocks || used != self.runs.used() {
            return Err(format!("{} blocks in runs, which hold {blocks}", self.blocks));
        }
        if chunks != self.chunks.used() || bytes != self.bytes {
            return Err(format!("{chunks} chunks and {bytes} bytes of runs are used"));
        }
        Ok(())
    }
}
