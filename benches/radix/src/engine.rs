//! What every index under measurement does, in its own types.

use std::sync::atomic::AtomicBool;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cache::Step;

/// Which index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// warmpath-radix
    Warmpath,
    /// dynamo-kv-router's RadixTree, for one thread
    RadixTree,
    /// dynamo-kv-router's ConcurrentRadixTreeCompressed
    Concurrent,
    /// dynamo-kv-router's PositionalIndexer
    Positional,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Warmpath, Self::RadixTree, Self::Concurrent, Self::Positional];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warmpath => "warmpath-radix",
            Self::RadixTree => "RadixTree",
            Self::Concurrent => "ConcurrentRadixTreeCompressed",
            Self::Positional => "PositionalIndexer",
        }
    }

    /// The word on the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether readers may ask while a writer writes.
    pub(crate) fn shared(self) -> bool {
        self != Self::RadixTree
    }
}

/// One index. What it is given has its own types, made outside the measured time.
pub(crate) trait Engine {
    type Query;
    type Found;
    type Events;

    fn query(local: &[u64]) -> Self::Query;
    fn events(steps: &[Step]) -> Self::Events;

    /// The measured lookup; a query may be used up.
    fn find(&self, query: &mut Self::Query) -> Self::Found;
    /// Worker and leading blocks, by worker.
    fn answer(found: &Self::Found) -> Vec<(u32, u32)>;
    /// The measured change: done when it returns.
    fn apply(&self, events: Self::Events);

    /// Removes and stores again what these steps stored, one step after the other
    /// and as fast as the index takes it; the blocks removed and stored.
    fn churn(&self, steps: &[Step], done: &AtomicBool) -> usize;
}
