/*!
How a worker is chosen among those that could serve a request.

A policy is one file here and one row of the table; what it sees is the
candidates as they are at the moment of the decision, what it says is a score
for each. The router picks the greatest, so a policy can not choose a worker
that is down, and ties and broken scores are handled in one place. A policy that
draws lots draws them into the scores, so that the second best is there too, for
the fallbacks.

Policies see what the router knows and keep nothing of their own: what is learned
(rates, turns, requests in flight) is kept with the workers, so that policies can
be exchanged while requests run, and compared on the same knowledge.
*/

mod cost;
mod lmetric;
mod load;
mod logit;
mod rotate;
mod settings;
mod ttft;
mod two_tier;

use rand::rngs::SmallRng;

pub use settings::{CostSettings, LogitSettings, Settings, TtftSettings, TwoTierSettings};

use crate::book::InFlight;
use crate::load::Load;

/// Name of the policy where none is configured.
pub const DEFAULT: &str = "ttft";

/// Block size that is assumed where none is known yet.
const BLOCK_SIZE: u32 = 16;

/// What is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Length in tokens.
    pub tokens: u64,
    /// Whether the tokens still to prefill are known of every candidate.
    pub tracks_prefill: bool,
}

/// One (worker, rank) that could serve the request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Leading blocks of the prompt that it holds, or is predicted to.
    pub overlap_blocks: u32,
    /// The last of those, which are only predicted.
    pub predicted_blocks: u32,
    /// Blocks behind those that it holds in host memory.
    pub host_blocks: u32,
    /// Blocks behind those that it holds on disk.
    pub disk_blocks: u32,
    /// Its block size in tokens; 0 where none is known.
    pub block_size: u32,
    /// What its engine says of itself.
    pub load: Load,
    /// What was routed to it and has not finished.
    pub in_flight: InFlight,
    /// Blocks of its requests in flight, shared ones once; 0 where they are not tracked.
    pub active_blocks: f64,
    /// Leading blocks of the prompt that requests in flight there use already.
    pub shared_blocks: u32,
    /// How many requests in flight there use all of those.
    pub shared_by: u32,
    /// Blocks that the prompt would add to the active ones; 0 where they are not tracked.
    pub new_blocks: f64,
    /// Number of the last decision for it; 0 before the first.
    pub turn: u64,
    /// Whether it has as much to do as it should; it is passed over while another is not.
    pub busy: bool,
}

impl Candidate {
    /// Leading tokens of the prompt that it holds.
    pub fn overlap_tokens(&self) -> u64 {
        u64::from(self.overlap_blocks) * u64::from(self.block_size)
    }

    /// Tokens of a prompt of this length that it would have to prefill.
    pub fn uncached_tokens(&self, tokens: u64) -> f64 {
        tokens.saturating_sub(self.overlap_tokens()) as f64
    }

    /// Tokens of a prompt of this length that it will have to prefill, as far as
    /// requests in flight there do not do it before.
    pub fn to_prefill(&self, tokens: u64) -> f64 {
        let blocks = self.overlap_blocks.max(self.shared_blocks);
        tokens.saturating_sub(u64::from(blocks) * u64::from(self.block_size)) as f64
    }

    /// Leading tokens of the prompt that requests in flight there use already.
    fn shared_tokens(&self) -> f64 {
        f64::from(self.shared_blocks) * f64::from(self.block_size)
    }

    /// Its block size, or what is assumed of it.
    fn block_tokens(&self) -> f64 {
        f64::from(if self.block_size == 0 { BLOCK_SIZE } else { self.block_size })
    }
}

/// A way to choose.
pub trait Policy: Send + Sync {
    /// Writes one score for each candidate, in their order; the greatest wins,
    /// NaN loses against everything.
    ///
    /// `scores` is empty; lots are drawn from `dice`, which is seeded.
    fn score(
        &self,
        prompt: Prompt,
        candidates: &[Candidate],
        dice: &mut SmallRng,
        scores: &mut Vec<f64>,
    );
}

/// Makes a policy of the settings.
type Make = fn(&Settings) -> Box<dyn Policy>;

/// Every policy by its name.
const POLICIES: &[(&str, Make)] = &[
    ("ttft", |settings| Box::new(ttft::Ttft(settings.ttft))),
    ("cost", |settings| Box::new(cost::Cost(settings.cost))),
    ("logit", |settings| Box::new(logit::Logit(settings.logit))),
    ("two-tier", |settings| Box::new(two_tier::TwoTier(settings.two_tier))),
    ("lmetric", |_| Box::new(lmetric::Lmetric)),
    ("least-loaded", |_| Box::new(load::LeastLoaded)),
    ("power-of-two", |_| Box::new(load::PowerOfTwo)),
    ("round-robin", |_| Box::new(rotate::RoundRobin)),
    ("random", |_| Box::new(rotate::Random)),
];

/// The names of all policies.
pub fn names() -> Vec<&'static str> {
    POLICIES.iter().map(|(name, _)| *name).collect()
}

/// The policies, made of settings.
pub struct Policies {
    settings: Settings,
    all: Vec<Box<dyn Policy>>,
    default: usize,
}

/// No policy of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy {0:?}; known are {known}", known = names().join(", "))]
pub struct UnknownPolicy(pub String);

impl Policies {
    /// Makes every policy; fails where the settings name none that exists.
    pub fn new(settings: Settings) -> Result<Self, UnknownPolicy> {
        let default =
            position(&settings.policy).ok_or_else(|| UnknownPolicy(settings.policy.clone()))?;
        let all = POLICIES.iter().map(|(_, make)| make(&settings)).collect();
        Ok(Self { settings, all, default })
    }

    /// One policy that has no name.
    #[cfg(test)]
    pub(crate) fn of(policy: Box<dyn Policy>) -> Self {
        Self { settings: Settings::default(), all: vec![policy], default: 0 }
    }

    /// What they were made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The policy of that name, or the configured one.
    pub fn get(&self, name: Option<&str>) -> Option<&dyn Policy> {
        let at = name.map_or(Some(self.default), position)?;
        Some(&*self.all[at])
    }
}

fn position(name: &str) -> Option<usize> {
    POLICIES.iter().position(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests;
