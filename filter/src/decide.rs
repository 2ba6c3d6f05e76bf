//! What is asked of the indexer, and what its answer means for the request.
//!
//! Pure: bytes and models in, messages and headers out.

use std::sync::Arc;

use warmpath_blocks as blocks;
use warmpath_prompt::{Hashed, Job, Model, Request, Want};
use warmpath_protocol::{Decision, ErrorBody, Hash, Pin, RouteRequest, brief, code};

use crate::config::{Config, Destination};
use crate::host::Reply;
use crate::inbound::{CLUSTER_HEADER, ENDPOINT_HEADER, Overrides, RANK_HEADER, WORKER_HEADER};
use crate::message;
use crate::reason::Fallback;
use crate::task::Tools;

/// All scores that fit into so many bytes are reported: clients refuse
/// responses with larger headers.
const MAX_SCORES_BYTES: usize = 16 << 10;

/// What a request leads to.
pub enum Draft {
    /// A question whose hashes are still to come from the job.
    Hash {
        /// The rest of the question.
        bare: Box<RouteRequest>,
        /// Makes the hashes.
        job: Job,
        /// Whose job it is.
        model: Arc<Model>,
    },
    /// A question without hashes.
    Ask(Box<RouteRequest>),
    /// The client's own body is the question.
    Text,
}

/// Makes the question of a request, but for its hashes.
///
/// A pinned request is asked for although its prompt can not be tokenized: its
/// worker does not depend on the prompt.
pub fn draft(
    request: Request,
    overrides: &Overrides,
    tools: &mut Tools<'_>,
    unix_seconds: u64,
) -> Result<Draft, Fallback> {
    let pin = overrides.worker.as_deref().map(str::parse::<Pin>).transpose();
    let pin = pin.map_err(|_| Fallback::BadPin)?;
    let is_pinned = pin.is_some();
    let mut bare = Box::new(RouteRequest {
        model: request.model.clone(),
        cache_salt: request.cache_salt.clone(),
        policy: overrides.policy.clone(),
        explain: overrides.explain,
        pin,
        ..RouteRequest::default()
    });
    let begun = tools.models.find(&request.model).and_then(|usable| {
        let adapter = usable.entry.adapter(&request.model);
        bare.adapter = adapter.map(str::to_owned);
        let want = Want {
            block_sizes: &usable.entry.block_sizes,
            seed: blocks::seed(adapter, request.cache_salt.as_deref()),
            max_tokens: tools.config.max_prompt_tokens,
            digest: overrides.explain,
        };
        let job = usable.model.begin(request, unix_seconds, want, tools.cache);
        let job = job.map_err(|refusal| Fallback::Refused(refusal.name()))?;
        Ok((job, Arc::clone(usable.model)))
    });
    match begun {
        Ok((job, model)) => Ok(Draft::Hash { bare, job, model }),
        Err(Fallback::NoTable) if tools.config.text_fallback => Ok(Draft::Text),
        Err(_) if is_pinned => Ok(Draft::Ask(bare)),
        Err(fallback) => Err(fallback),
    }
}

/// The question, its hashes filled in.
pub fn complete(bare: RouteRequest, hashed: Hashed) -> RouteRequest {
    let hashes = hashed
        .hashes
        .into_iter()
        .map(|(size, hashes)| (size.to_string(), hashes.into_iter().map(Hash).collect()));
    RouteRequest {
        tokens: hashed.tokens,
        hashes: hashes.collect(),
        token_digest: hashed.digest.map(Hash),
        ..bare
    }
}

/// What the indexer makes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to a worker.
    Routed(Decision),
    /// It is refused, as the operator wants it while all workers are busy: the client may
    /// come again after so many seconds.
    Refused(u64),
}

/// Reads the indexer's answer.
pub fn answer(reply: &Reply, destination: Destination) -> Result<Verdict, Fallback> {
    match reply.status {
        Some(200) => {
            let decision = brief::read(&reply.body).or_else(|| message::read(&reply.body).ok());
            let decision = decision.ok_or(Fallback::BadReply)?;
            is_usable(&decision, destination)
                .then_some(Verdict::Routed(decision))
                .ok_or(Fallback::BadReply)
        }
        // Envoy's own words carry no code: a refused connection is its 503, a
        // call that took too long its 504.
        status => match message::read::<ErrorBody>(&reply.body).map(|body| body.error) {
            Ok(error) if error.code == code::SATURATED => {
                Ok(Verdict::Refused(error.retry_after.unwrap_or(1)))
            }
            error => Err(error.ok().and_then(|error| Fallback::of_code(&error.code)).unwrap_or(
                match status {
                    None | Some(503) => Fallback::IndexerUnavailable,
                    Some(504) => Fallback::IndexerTimeout,
                    Some(_) => Fallback::IndexerError,
                },
            )),
        },
    }
}

/// The body of a refusal, as OpenAI's clients read errors.
pub fn saturated(seconds: u64) -> String {
    let code = code::SATURATED;
    format!(
        r#"{{"error":{{"message":"all workers are busy; try again in {seconds} s","type":"overloaded_error","code":"{code}"}}}}"#
    )
}

/// Whether the decision names a place, and nothing in it could break out of a header.
fn is_usable(decision: &Decision, destination: Destination) -> bool {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    is_token(&decision.worker)
        && match destination {
            Destination::OverrideHost => {
                is_token(&decision.endpoint) && decision.fallbacks.iter().all(|f| is_token(f))
            }
            Destination::ClusterHeader => is_token(&decision.cluster),
        }
}

/// The request headers that send a request where it was decided.
pub fn upstream_headers(decision: &Decision, config: &Config) -> Vec<(&'static str, String)> {
    let destination = match config.destination {
        Destination::OverrideHost => {
            let mut endpoints = decision.endpoint.clone();
            for fallback in &decision.fallbacks {
                endpoints.push(',');
                endpoints.push_str(fallback);
            }
            (ENDPOINT_HEADER, endpoints)
        }
        Destination::ClusterHeader => (CLUSTER_HEADER, decision.cluster.clone()),
    };
    let rank = (decision.ranks > 1).then(|| (RANK_HEADER, decision.rank.to_string()));
    [destination].into_iter().chain(rank).collect()
}

/// A routed request's report: response headers, filter state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `ID`, or `ID:RANK` of a worker with ranks: the form that a pin has.
    pub worker: String,
    /// `12/40`: blocks that the worker holds, of the prompt's.
    pub overlap: String,
    /// JSON, where it was asked for.
    pub scores: Option<String>,
}

impl Report {
    /// What there is to say of a decision.
    pub fn new(decision: &Decision) -> Self {
        let rank = (decision.ranks > 1).then_some(decision.rank);
        Self {
            worker: Pin { worker: decision.worker.clone(), rank }.into(),
            overlap: format!("{}/{}", decision.overlap_blocks, decision.total_blocks),
            scores: decision.scores.as_deref().and_then(scores),
        }
    }

    /// The response headers of it.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [(WORKER_HEADER, self.worker.as_str()), ("x-warmpath-overlap", &self.overlap)]
            .into_iter()
            .chain(self.scores.as_deref().map(|scores| ("x-warmpath-scores", scores)))
    }
}

fn scores(scores: &[warmpath_protocol::Score]) -> Option<String> {
    let mut kept = scores.len();
    loop {
        let json = serde_json::to_string(scores.get(..kept)?).ok()?;
        if json.len() <= MAX_SCORES_BYTES && json.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(json);
        }
        // The best come first, so the rest is what is left out.
        kept = kept.checked_div(2).filter(|kept| *kept > 0)?;
    }
}
