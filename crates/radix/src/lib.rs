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
- Tiers are claims of their own: a block on two of them is stored and removed on
  each. An engine names a parent on whatever tier it lies.
- A chain whose parent is not there is kept aside, in bounds, and laid down when the
  parent comes under the same seed. What is given up instead is counted.
- A predicted block counts beside those that events told of, until its event comes
  or its time has passed.
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
- `names`, `table` and `lane`: per holder and tier the engine hashes, beside each other as
  their blocks are, and six bytes and a counter's share each in buckets of a cache line to
  find them by. Copies, foreign seeds and second names are rare and kept aside.
- `held`: a holder with its tiers, what waits (`aside`) and what is predicted
  (`predict`). To the tree each of its claims is a `seat`.
- `tree` and `find`: changes and queries. `evict`: the ceiling. `index`: the locks.

A block costs its holder 18 to 22 bytes, and the index 8 to 9 bytes once. Edges cost
some 200 bytes: little where chains part every few hundred blocks, as they do, and
the greater part where each has but one. There are addresses for 2^27 runs of up to
32 blocks, some 36 GB of index; beyond them a store is refused as beyond the ceiling.

Digests name blocks by 64 of their bits. Tables of whole digests were rejected: two
blocks of a holder's 200,000 agree by chance once in a thousand million caches, the
engines' own integers are no better, and it was 34 to 43 bytes for each block.

What is compared: a query is held against the digest of each 32 stored hashes, of 64
bits, as good as a hash of a block: hash by hash, the longest queries waited for
memory.

Concurrency: an event works on its holder's own table under its holder's own lock,
which takes most of its time, and holds the tree's lock only to lay down some blocks
or to let go of some, for a microsecond or so. Readers share that lock, try again for
a while before they go to sleep, since being woken takes longer than any writer, and
do not know of the other locks. Rejected: shards by the first block (all prompts of a model
may begin alike, and then there is one shard); a lock or version for each node (a
query would pay for each, and a chain that is being split must be read twice); two
copies of the tree that change places (twice the memory and twice the writing, to
save readers a wait that does not show in their 99th percentile). What may happen is
tried under a scheduler of interleavings (`tests/model.rs`).

Near the ceiling the holder with the most blocks loses those at the ends of chains
that no query came by for longest, of a sample. Readers stamp the nodes they pass, once
a tick of a coarse clock. Rejected: a list in order of use (every query would write
to it).

The ceiling is exact after every change: what a change will take is made room for before,
and what it took beyond that goes after it.

Where the time of a write goes: nearly all of it into the tables, and there into waiting
for memory. Each block is one line at random, which no order of events helps; a removed
run's names are read one after the other, but its slots must be emptied one by one. What
helped, of 62 ns a block that a store and a removal cost on average on one machine:
prefetches instead of reads (12 ns; `prefetch`), slots of six bytes with the names apart
(they alone nothing at first: the calling back of displaced keys read their names; 5 ns
since slots say whose guest a key is), the second line of a search asked for as early as
the first (2 ns), room for a whole event's hashes at once (1 ns). Huge pages, asked for by
the allocator (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`), take another 12 % off, and are the
operator's to choose. Rejected: naming only some blocks in the table and finding the
others beside them (a name that two contents claim would be noticed late); emptying slots
later, when they are met (a full table then reads a name for each slot to learn whether it
still counts).
*/

mod aside;
mod cover;
mod dump;
mod evict;
mod find;
mod held;
mod index;
mod lane;
mod names;
mod node;
mod predict;
mod prefetch;
mod run;
mod seat;
mod slab;
mod snapshot;
mod sync;
mod table;
mod tree;
mod types;

pub use dump::Chain;
pub use find::Matches;
pub use index::Index;
pub use snapshot::{Restored, SnapshotError};
pub use types::{
    Block, Dropped, EngineHash, Holder, Match, Progress, Stats, StoreError, Stored, Tier, WorkerId,
};

#[cfg(test)]
mod tests;
