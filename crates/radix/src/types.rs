//! The words of the interface.

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

/// Where a holder keeps a block, from the fastest.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug, Default)]
pub enum Tier {
    /// The accelerator's memory: used as it lies.
    #[default]
    Device,
    /// The host's memory.
    Host,
    /// A disk or other local storage.
    Disk,
}

impl Tier {
    /// All tiers, from the fastest.
    pub const ALL: [Self; 3] = [Self::Device, Self::Host, Self::Disk];
}

/// The id that an engine gave a block; opaque, and only its holder's own.
///
/// Signed integers are cast, digests folded by [`EngineHash::from_bytes`].
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug, Default)]
pub struct EngineHash(pub u64);

impl EngineHash {
    /// Folds a digest of any length to the integer that stands for it here.
    ///
    /// A digest of 32 bytes becomes its last 8, read big-endian: that is how vLLM
    /// makes its integer hashes of them, and an engine that is switched from one
    /// form to the other names its blocks as before. Of every other length all
    /// bytes count, since some engines send hexadecimal text.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.len() == 32
            && let Some(last) = bytes.last_chunk()
        {
            return Self(u64::from_be_bytes(*last));
        }
        Self(bytes.chunks(8).fold(bytes.len() as u64, |folded, chunk| {
            let word = chunk.iter().fold(0, |word: u64, &byte| word << 8 | u64::from(byte));
            let mixed = u128::from(folded ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xbf58_476d_1ce4_e5b9;
            (mixed as u64) ^ ((mixed >> 64) as u64)
        }))
    }
}

/// One block of a chain that an engine stored.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Block {
    /// Hash of its tokens, the key of the tree.
    pub local: u64,
    /// The engine's name for it.
    pub engine: EngineHash,
}

/// What a store did; the three add up to the blocks that it was given.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Stored {
    /// Blocks that the holder did not have on the tier under that engine hash.
    pub new: usize,
    /// Blocks that it had: one more copy of each.
    pub copies: usize,
    /// Blocks that wait for their parent, which the holder does not have (yet).
    pub aside: usize,
}

/// Why a store changed nothing.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum StoreError {
    /// A chain that contains its own parent has no place in a tree.
    #[error("the chain contains its own parent block")]
    SelfParent,
    /// The ceiling on memory is reached, and nothing is left to let go.
    #[error("the index is at its memory ceiling: raise it")]
    Full,
}

/// What became of the blocks of one removal; the four add up to what it named.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Dropped {
    /// Last copies.
    pub last: usize,
    /// Copies of which the holder has more.
    pub copies: usize,
    /// Blocks that waited for their parent.
    pub aside: usize,
    /// Names that the holder did not know on the tier.
    pub unknown: usize,
}

/// One holder of leading blocks of a prompt.
///
/// Counts are of leading blocks from the first on, without a hole. At least one of
/// them is not 0.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct Match {
    /// Who has them.
    pub holder: Holder,
    /// On the device.
    pub blocks: u32,
    /// On the device, and from there on in the host's memory: never less than
    /// `blocks`. An engine loads what follows its own device cache.
    pub host: u32,
    /// The same, and from there on on disk: never less than `host`.
    pub disk: u32,
    /// On the device or predicted to come there; never less than `blocks`.
    pub predicted: u32,
}

/// How far a search has come; see [`crate::Index::find`].
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Progress {
    /// Leading blocks compared so far.
    pub blocks: u32,
    /// Holders that have all of them on some tier, or will.
    pub holders: usize,
}

/// Sizes of the index and counts since it began.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Stats {
    /// Nodes of the tree: distinct prefixes.
    pub nodes: usize,
    /// Blocks held, summed over all holders and tiers.
    pub holder_blocks: usize,
    /// Holders with at least one block.
    pub holders: usize,
    /// Blocks that wait for their parent.
    pub aside: usize,
    /// Heap that the index takes, in bytes, as asked of the allocator.
    pub bytes: usize,
    /// Blocks let go to stay below the ceiling, since the start.
    pub evicted: u64,
    /// Blocks that waited for their parent in vain, since the start.
    pub lost: u64,
}
