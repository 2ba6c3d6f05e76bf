//! What is asked, and why there may be no answer.

use warmpath_protocol::{Pin, code};

use crate::policy::UnknownPolicy;

/// A prompt's local hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// For each block size, as the filter sends them.
    BySize(Vec<(u32, Vec<u64>)>),
    /// Of a size that the client did not say: each worker's own (the seeds).
    Unsized(Vec<u64>),
}

impl Hashes {
    /// Those of a block size.
    pub fn of(&self, size: u32) -> Option<&[u64]> {
        match self {
            Self::BySize(all) => {
                all.iter().find(|(known, _)| *known == size).map(|(_, hashes)| hashes.as_slice())
            }
            Self::Unsized(hashes) => Some(hashes),
        }
    }

    /// Those of whatever size comes first: prompts with a common prefix have one here.
    pub fn any(&self) -> &[u64] {
        match self {
            Self::BySize(all) => all.first().map_or(&[], |(_, hashes)| hashes),
            Self::Unsized(hashes) => hashes,
        }
    }
}

/// What is to be decided.
#[derive(Clone, Debug)]
pub struct Question {
    /// The request's id.
    pub request_id: String,
    /// The base model by position; none asks among all workers.
    pub model: Option<usize>,
    /// Length of the prompt in tokens.
    pub tokens: u64,
    /// The prompt's hashes.
    pub hashes: Hashes,
    /// Another policy than the configured one.
    pub policy: Option<String>,
    /// The worker that the client insists on.
    pub pin: Option<Pin>,
    /// Workers that must not be chosen.
    pub exclude: Vec<String>,
    /// Whether the decision carries all scores.
    pub explain: bool,
    /// Digest of all token ids.
    pub token_digest: Option<u64>,
    /// Higher goes first while requests are held.
    pub priority: i32,
}

impl Question {
    /// A question with no wishes beyond the prompt.
    pub fn new(request_id: String, model: Option<usize>, tokens: u64, hashes: Hashes) -> Self {
        Self {
            request_id,
            model,
            tokens,
            hashes,
            policy: None,
            pin: None,
            exclude: Vec::new(),
            explain: false,
            token_digest: None,
            priority: 0,
        }
    }
}

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No model of that name.
    #[error("no model, alias or adapter {0:?}; GET /v1/manifest lists them")]
    UnknownModel(String),
    /// A key of `hashes` is not a block size.
    #[error("hashes: {0:?} is not a block size in tokens")]
    BlockSize(String),
    /// No policy of that name.
    #[error(transparent)]
    UnknownPolicy(#[from] UnknownPolicy),
    /// The pinned worker can not take the request.
    #[error("pinned worker {0:?} {1}")]
    Pin(String, &'static str),
    /// All workers are busy, and the operator wants such requests refused; try again in
    /// so many seconds.
    #[error("all workers are busy; try again in {0} s")]
    Saturated(u64),
    /// Nobody can take the request.
    #[error("no worker is up for the request")]
    NoWorker,
}

impl RouteError {
    /// The code of the error's body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel(_) => code::UNKNOWN_MODEL,
            Self::BlockSize(_) => code::BAD_REQUEST,
            Self::UnknownPolicy(_) => code::UNKNOWN_POLICY,
            Self::Pin(..) => code::PIN_UNAVAILABLE,
            Self::Saturated(_) => code::SATURATED,
            Self::NoWorker => code::NO_WORKER,
        }
    }
}

/// The hashes of a request by block size.
pub fn sized(
    hashes: std::collections::BTreeMap<String, Vec<warmpath_protocol::Hash>>,
) -> Result<Hashes, RouteError> {
    let mut all = Vec::with_capacity(hashes.len());
    for (key, hashes) in hashes {
        match key.parse() {
            Ok(size) if size > 0 => all.push((size, hashes.into_iter().map(|h| h.0).collect())),
            _ => return Err(RouteError::BlockSize(key)),
        }
    }
    Ok(Hashes::BySize(all))
}
