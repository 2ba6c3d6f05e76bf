/*!
The prefix index: which holder has which leading blocks of a prompt.

The tree navigates by *local hashes*; a path from the root is a prefix. *Engine
hashes* are handles, never keys: each holder has its own table from engine hash to
place, so two workers may name one block differently, and neither can remove or
extend the other's claim. Dynamo keys the tree's shared nodes by the first worker's
engine hash, and the second worker's claims then never go away; that was the reason
not to do the same. A flat map from sequence hash to holders was rejected too: it
needs the whole prefix for each event, and events carry a parent handle only; and a
map by position and hash costs a search for every block of a query.

What holds, whatever order the events come in:

- A block is held while its copies last: an engine that stored one hash n times
  removes it n times.
- A removed block leaves a hole. Blocks behind the hole stay, but give no credit
  until the hole is stored again, under the same or another engine hash.
- One holder may name one block by several engine hashes (an engine that changed
  its hash function without a restart); it holds the block while any of them
  lasts.
- One engine hash that turns up for other content means that the engine no
  longer has the old: the newest content wins and the old binding, with all its
  copies, is dropped.
- A block that nobody holds and that has nothing below it is freed. Nodes that were
  split where two chains parted are one again when only one of them is left.

The parts, from the bottom up:

- `run`: the local hashes, in pieces of chain as they were stored, eight bytes a
  block however many hold it. A block's place is an address in them, of four bytes,
  and never changes; nothing that happens to one holder, neither splits nor merges,
  touches the table of another.
- `node` and `cover`: an edge of the compressed tree is a stretch of a run, with
  the holders that have blocks of it: how many leading ones, and a bitmap for what
  lies behind a hole while there is one. A query compares whole stretches of hashes
  and looks at holders once an edge.
- `held` and `table`: per holder the engine hashes, twelve bytes and a counter's
  share each, in buckets of a cache line. Copies, foreign seeds and second names are
  rare and kept aside.
- `tree` and `find`: changes and queries. `index`: the locks.

An integer-named block costs its holder 17 to 21 bytes, and the index 8 to 9 bytes
once. Blocks named by digests cost 34 to 43 bytes more. Edges cost some 300 bytes:
little where chains part every few hundred blocks, as they do, and the greater part
where each has but one. There are addresses for 2^27 runs of up to 32 blocks, beyond
36 GB of index; a ceiling on memory must come before that.

Concurrency: an event works on its holder's own table under its holder's own lock,
which takes most of its time, and holds the tree's lock only to lay down a chain or
to let go of a few blocks, for a microsecond or so. Readers share that lock and do
not know of the others. Rejected: shards by the first block (all prompts of a model
may begin alike, and then there is one shard); a lock or version for each node (a
query would pay for each, and a chain that is being split must be read twice); two
copies of the tree that change places (twice the memory and twice the writing, to
save readers a wait that does not show in their 99th percentile).
*/

mod cover;
mod find;
mod held;
mod index;
mod node;
mod run;
mod table;
mod tree;

pub use index::Index;

/// A worker, as a number that its fleet gave out and never gives out again.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct WorkerId(pub u32);

/// One data-parallel rank of a worker: whatever has a KV cache of its own.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct Holder {
    /// The worker.
    pub worker: WorkerId,
    /// The rank inside it, from 0.
    pub rank: u32,
}

/// The id that an engine gave a block; opaque, and only its holder's own.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub enum EngineHash {
    /// An integer; signed ones are cast.
    Int(u64),
    /// A digest; shorter ones are padded with zeros at the end.
    Bytes([u8; 32]),
}

/// One block of a chain that an engine stored.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Block {
    /// Hash of its tokens, the key of the tree.
    pub local: u64,
    /// The engine's name for it.
    pub engine: EngineHash,
}

/// What a store did; the two add up to the blocks that it was given.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Stored {
    /// Blocks that the holder did not have under that engine hash.
    pub new: usize,
    /// Blocks that it had: one more copy of each.
    pub copies: usize,
}

/// Why a store changed nothing.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The holder has no block of that name, so the chain's place is unknown.
    #[error("the parent block is not held: its event was lost or came later")]
    UnknownParent,
    /// A chain that contains its own parent has no place in a tree.
    #[error("the chain contains its own parent block")]
    SelfParent,
}

/// What a removal did.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Removed {
    /// It was the last copy: the holder no longer has the block by this name.
    Last,
    /// The holder has copies left.
    Copy,
    /// The holder had no block of this name.
    Unknown,
}

/// What became of the blocks of one removal; the three add up to what it named.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Dropped {
    /// Last copies.
    pub last: usize,
    /// Copies of which the holder has more.
    pub copies: usize,
    /// Names that the holder did not know.
    pub unknown: usize,
}

impl Dropped {
    fn count(&mut self, removed: Removed) {
        *match removed {
            Removed::Last => &mut self.last,
            Removed::Copy => &mut self.copies,
            Removed::Unknown => &mut self.unknown,
        } += 1;
    }
}

/// One holder of leading blocks of a prompt.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct Match {
    /// Who has them.
    pub holder: Holder,
    /// How many blocks from the first on, without a hole; at least 1.
    pub blocks: u32,
}

/// Sizes of the index.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Stats {
    /// Nodes of the tree: distinct prefixes.
    pub nodes: usize,
    /// Blocks held, summed over all holders.
    pub holder_blocks: usize,
    /// Holders with at least one block.
    pub holders: usize,
}

#[cfg(test)]
mod tests;
