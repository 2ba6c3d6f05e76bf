/*!
How a worker is chosen among those that could serve a request.

A policy is one file here and one row of the table; what it sees is the
candidates as they are at the moment of the decision, what it says is a score
for each. The router picks the greatest, so a policy can not choose a worker
that is down, and ties and broken scores are handled in one place.
*/

mod logit;

use crate::load::Load;

/// Name of the policy where none is configured.
pub const DEFAULT: &str = "logit";

/// One (worker, rank) that could serve the request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Leading blocks of the prompt that it holds.
    pub overlap_blocks: u32,
    /// Its block size in tokens; 0 where none is known.
    pub block_size: u32,
    /// How busy it is.
    pub load: Load,
}

impl Candidate {
    /// Leading tokens of the prompt that it holds.
    pub fn overlap_tokens(&self) -> u64 {
        u64::from(self.overlap_blocks) * u64::from(self.block_size)
    }
}

/// A way to choose.
pub trait Policy: Send + Sync {
    /// Writes one score for each candidate, in their order; the greatest wins,
    /// NaN loses against everything.
    ///
    /// `tokens` is the prompt's length; `scores` is empty.
    fn score(&self, tokens: u64, candidates: &[Candidate], scores: &mut Vec<f64>);
}

/// Every policy by its name.
const POLICIES: &[(&str, &dyn Policy)] = &[("logit", &logit::Logit)];

/// The policy of that name.
pub fn find(name: &str) -> Option<&'static dyn Policy> {
    POLICIES.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
}

/// The names of all policies.
pub fn names() -> Vec<&'static str> {
    POLICIES.iter().map(|(name, _)| *name).collect()
}
