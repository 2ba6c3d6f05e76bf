//! What earlier prompts of a VM leave to later ones: ids of text, hashes of prefixes.

/// One per VM, shared by all of its models.
#[derive(Debug)]
pub struct Cache {
    budget: usize,
}

/// What a [`Cache`] holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes that it may take at most.
    pub budget: usize,
    /// Bytes that it takes, its own tables included; never above the budget.
    pub bytes: usize,
    /// Entries in it.
    pub entries: usize,
    /// Stretches of text looked up and found, since it was made.
    pub hits: u64,
    /// Stretches of text looked up and not found.
    pub misses: u64,
    /// Entries that made room for others.
    pub evicted: u64,
}

impl Cache {
    /// A cache of at most `bytes`, everything counted; 0 turns it off.
    pub fn new(bytes: usize) -> Cache {
        Cache { budget: bytes }
    }

    /// What it holds and did.
    pub fn stats(&self) -> CacheStats {
        CacheStats { budget: self.budget, ..CacheStats::default() }
    }
}
