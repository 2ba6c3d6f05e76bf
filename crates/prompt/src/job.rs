//! From a request to its block hashes, in slices.
//!
//! The rendered prompt is walked once, segment by segment (see
//! `warmpath_tokenizer::Segment`). Wherever a segment of some length ends, the hashes up
//! to there may be known from an earlier prompt that began alike; only what follows the
//! last such place is tokenized and hashed. A slice is bounded by what it tokenizes, so
//! that a long prompt does not hold up the thread that it shares.

mod turn;
mod walk;

use crate::body::{Asked, Fitting};
use crate::cache::Cache;
use crate::model::{Source, fitted};
use crate::{Model, Refusal, Request};
use turn::{Rendered, Turn};
use walk::{Known, Walk};
use warmpath_blocks::{BlockHasher, local_hashes, token_digest};

/// What [`Hashed::cut`] says where [`Want::max_tokens`] was reached.
const TOKEN_CAP: &str = "token_cap";
const EMPTY: Refusal = Refusal::Invalid("an empty prompt");

/// What is wanted of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Block sizes in tokens; each gets its own list of hashes.
    pub block_sizes: &'a [u32],
    /// Seed of the local hashes: `warmpath_blocks::seed` of adapter and salt.
    pub seed: u64,
    /// Hashing stops at so many tokens; the default is the whole prompt.
    pub max_tokens: Option<u64>,
    /// Whether [`Hashed::digest`] is wanted. It needs all ids, so that known prefixes
    /// save less.
    pub digest: bool,
}

/// A prompt on its way to hashes, see [`Model::begin`].
///
/// A completion of several prompts is hashed by its first one: the request goes to one
/// worker, and where that one is warm is as good a place as any.
#[derive(Debug)]
pub struct Job {
    fitting: Fitting,
    block_sizes: Vec<u32>,
    seed: u64,
    most: u64,
    digest: bool,
    stage: Stage,
    /// What the next turn is to begin with.
    turn: Option<Box<Turn>>,
}

#[derive(Debug)]
enum Stage {
    /// Hashed as it is walked.
    Prefixes(Box<Walk>),
    /// All ids are needed before any is hashed: where tokens are cut from the left, for one.
    Collected(Box<Walk>),
    Ids(Vec<u32>),
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
    /// before the cut. What lies behind a cut has not been tokenized: its length is not
    /// known, and none is made up.
    pub tokens: u64,
    /// Block size → local hashes of the full blocks, in the order that they were wanted.
    pub hashes: Vec<(u32, Vec<u64>)>,
    /// `warmpath_blocks::token_digest` of the tokens, where wanted.
    pub digest: Option<u64>,
    /// Why hashing stopped before the prompt's end: `token_cap`, `media`, …; a stable
    /// name, for counters.
    pub cut: Option<&'static str>,
    /// How many tokens did not have to be made, because the cache knew them or what
    /// their blocks hash to.
    pub reused_tokens: u64,
}

impl Model {
    /// Begins to hash the prompt of `request`: renders what of it `cache` does not know.
    ///
    /// `unix_seconds` is the time now, for templates that write the date. `cache` is the
    /// one that the body was read with, and that [`Job::advance`] gets.
    pub fn begin(
        &self,
        request: Request,
        unix_seconds: u64,
        want: Want<'_>,
        cache: &mut Cache,
    ) -> Result<Job, Refusal> {
        let Request { mut prompt, fitting, .. } = request;
        if let Asked::Completions(completions) | Asked::Pairs(completions) = &mut prompt {
            completions.prompts.truncate(1);
        }
        let (prefix, suffix) = self.around(fitting);
        let hasher = || {
            let mut hasher = BlockHasher::new(want.block_sizes, want.seed);
            hasher.tokens().extend(prefix);
            hasher
        };
        let mut left = None;
        let stage = match &prompt {
            Asked::Chat(chat) if !want.digest && fitting.keep.is_none() && !chat.media => {
                let hasher = hasher();
                let Rendered { text, chain, turn } =
                    turn::render(self, chat, unix_seconds, &hasher, cache)?;
                left = turn;
                let mut walk = Walk::new(Source::Rendered { text, media: false }, hasher);
                walk.go_on(turn::first_byte(&chain), &chain, cache, self.number());
                Stage::Prefixes(Box::new(walk))
            }
            prompt => {
                let source = self.sources(prompt, fitting, unix_seconds)?.into_iter().next();
                let media = matches!(source, Some(Source::Rendered { media: true, .. }));
                let collected = want.digest || fitting.keep.is_some() || media;
                match source {
                    Some(Source::Ids(ids)) => Stage::Ids(ids),
                    Some(source) if collected => {
                        Stage::Collected(Box::new(Walk::new(source, BlockHasher::default())))
                    }
                    Some(source) => Stage::Prefixes(Box::new(Walk::new(source, hasher()))),
                    None => Stage::Ids(Vec::new()),
                }
            }
        };
        let empty = match &stage {
            Stage::Prefixes(walk) | Stage::Collected(walk) => {
                walk.is_empty() && prefix.is_empty() && suffix.is_empty()
            }
            Stage::Ids(ids) => ids.is_empty(),
        };
        if empty {
            return Err(EMPTY);
        }
        Ok(Job {
            fitting,
            block_sizes: want.block_sizes.to_vec(),
            seed: want.seed,
            most: want.max_tokens.unwrap_or(u64::MAX),
            digest: want.digest,
            stage,
            turn: left,
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
        cache: &mut Cache,
        budget: usize,
    ) -> Result<Progress, Refusal> {
        let (ids, reused, cut) = match &mut self.stage {
            Stage::Prefixes(walk) => {
                let known = Known { model: model.number(), prefixes: true };
                if !walk.advance(model.encoder(), cache, known, budget, self.most)? {
                    return Ok(Progress::More);
                }
                let hashed = walk.finish(model.around(self.fitting).1, self.most);
                if let Some(turn) = self.turn.take().filter(|_| hashed.cut.is_none()) {
                    turn.keep(walk.source().text(), walk.places(), model.encoder(), cache);
                }
                return Ok(Progress::Done(hashed));
            }
            Stage::Collected(walk) => {
                let known = Known { model: model.number(), prefixes: false };
                if !walk.advance(model.encoder(), cache, known, budget, u64::MAX)? {
                    return Ok(Progress::More);
                }
                let content = std::mem::take(walk.hasher.tokens());
                let mut ids = model.fit(content, self.fitting)?;
                let cut = model.cut(walk.source(), &mut ids)?;
                (ids, walk.reused, cut)
            }
            Stage::Ids(ids) => (fitted(std::mem::take(ids), self.fitting), 0, None),
        };
        if ids.is_empty() {
            return Err(EMPTY);
        }
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let kept = ids.get(..most).unwrap_or(&ids);
        let hashes =
            |&size: &u32| (size, local_hashes(kept, usize::try_from(size).unwrap_or(0), self.seed));
        Ok(Progress::Done(Hashed {
            tokens: kept.len() as u64,
            hashes: self.block_sizes.iter().map(hashes).collect(),
            digest: self.digest.then(|| token_digest(kept)),
            cut: (kept.len() < ids.len()).then_some(TOKEN_CAP).or(cut),
            reused_tokens: reused.min(kept.len() as u64),
        }))
    }
}
