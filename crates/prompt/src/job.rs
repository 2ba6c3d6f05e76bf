//! From a request to its block hashes, in slices.

use crate::cache::Cache;
use crate::{Model, Refusal, Request};

/// What is wanted of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Block sizes in tokens; each gets its own list of hashes.
    pub block_sizes: &'a [u32],
    /// Seed of the local hashes: `warmpath_blocks::seed` of adapter and salt.
    pub seed: u64,
    /// Hashing stops at so many tokens; the default is the whole prompt.
    pub max_tokens: Option<u64>,
    /// Whether [`Hashed::digest`] is wanted.
    pub digest: bool,
}

/// A prompt on its way to hashes, see [`Model::begin`].
///
/// A completion of several prompts is hashed by its first one: the request goes to one
/// worker, and where that one is warm is as good a place as any.
#[derive(Debug)]
pub struct Job {
    request: Request,
    unix_seconds: u64,
    block_sizes: Vec<u32>,
    seed: u64,
    max_tokens: Option<u64>,
    digest: bool,
}

/// How far a [`Job`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do: [`Job::advance`] again, when others have had their turn.
    More,
    /// All done; the job is of no further use.
    Done(Hashed),
}

/// A prompt as the indexer wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// Tokens of the prompt, the partial last block included; where it was cut, those
    /// before the cut.
    pub tokens: u64,
    /// Block size → local hashes of the full blocks, in the order that they were wanted.
    pub hashes: Vec<(u32, Vec<u64>)>,
    /// `warmpath_blocks::token_digest` of the tokens, where wanted.
    pub digest: Option<u64>,
    /// Why hashing stopped before the prompt's end: `token_cap`, `media`, …; a stable
    /// name, for counters.
    pub cut: Option<&'static str>,
    /// How many of the tokens came from the cache.
    pub reused_tokens: u64,
}

impl Model {
    /// Begins to hash the prompt of `request`.
    ///
    /// `unix_seconds` is the time now, for templates that write the date.
    pub fn begin(
        &self,
        request: Request,
        unix_seconds: u64,
        want: Want<'_>,
    ) -> Result<Job, Refusal> {
        Ok(Job {
            request,
            unix_seconds,
            block_sizes: want.block_sizes.to_vec(),
            seed: want.seed,
            max_tokens: want.max_tokens,
            digest: want.digest,
        })
    }
}

impl Job {
    /// Works on: until done, or until some `budget` bytes of text that are not in the
    /// cache have been tokenized. At least a little is done each time.
    ///
    /// `model` is the one that began the job.
    pub fn advance(
        &mut self,
        model: &Model,
        _cache: &mut Cache,
        _budget: usize,
    ) -> Result<Progress, Refusal> {
        let prompts = model.tokenize(&self.request, self.unix_seconds)?;
        let ids = prompts.ids.first().map_or(&[][..], Vec::as_slice);
        let most =
            self.max_tokens.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let kept = ids.get(..most).unwrap_or(ids);
        let hashes = |&size: &u32| {
            let local = usize::try_from(size).unwrap_or(0);
            (size, warmpath_blocks::local_hashes(kept, local, self.seed))
        };
        Ok(Progress::Done(Hashed {
            tokens: kept.len() as u64,
            hashes: self.block_sizes.iter().map(hashes).collect(),
            digest: self.digest.then(|| warmpath_blocks::token_digest(kept)),
            cut: (kept.len() < ids.len()).then_some("token_cap").or(prompts.cut),
            reused_tokens: 0,
        }))
    }
}
