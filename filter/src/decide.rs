//! What is asked of the indexer, and what its answer means for the request.
//!
//! Pure: bytes and models in, messages and headers out.

use warmpath_blocks as blocks;
use warmpath_prompt::{Endpoint, Request, parse};
use warmpath_protocol::{Decision, ErrorBody, Hash, Pin, RouteRequest, brief};

use crate::config::{Config, Destination};
use crate::host::Reply;
use crate::inbound::{CLUSTER_HEADER, ENDPOINT_HEADER, Overrides, RANK_HEADER, WORKER_HEADER};
use crate::message;
use crate::models::{Models, Usable};
use crate::reason::Fallback;

/// All scores that fit into so many bytes are reported: clients refuse
/// responses with larger headers.
const MAX_SCORES_BYTES: usize = 16 << 10;

/// What is asked of the indexer.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// `POST /v1/route`: the prompt as hashes.
    Hashes(Box<RouteRequest>),
    /// `POST /v1/route/text`: the client's own body.
    Text,
}

/// Reads a body and makes the question of it.
///
/// A pinned request is asked for although its prompt can not be tokenized: its
/// worker does not depend on the prompt.
pub fn question(
    endpoint: Endpoint,
    body: &[u8],
    overrides: &Overrides,
    models: &Models,
    text_fallback: bool,
    unix_seconds: u64,
) -> Result<Question, Fallback> {
    let pin = overrides.worker.as_deref().map(str::parse::<Pin>).transpose();
    let pin = pin.map_err(|_| Fallback::BadPin)?;
    let request = parse(endpoint, body).map_err(|refusal| Fallback::Refused(refusal.name()))?;
    let bare = RouteRequest {
        model: request.model.clone(),
        cache_salt: request.cache_salt.clone(),
        policy: overrides.policy.clone(),
        explain: overrides.explain,
        ..RouteRequest::default()
    };
    let hashed = models
        .find(&request.model)
        .and_then(|usable| with_hashes(bare.clone(), &usable, &request, unix_seconds));
    match (hashed, pin) {
        (Ok(route), pin) => Ok(Question::Hashes(Box::new(RouteRequest { pin, ..route }))),
        (Err(Fallback::NoTable), _) if text_fallback => Ok(Question::Text),
        (Err(_), Some(pin)) => {
            Ok(Question::Hashes(Box::new(RouteRequest { pin: Some(pin), ..bare })))
        }
        (Err(fallback), None) => Err(fallback),
    }
}

fn with_hashes(
    bare: RouteRequest,
    usable: &Usable<'_>,
    request: &Request,
    unix_seconds: u64,
) -> Result<RouteRequest, Fallback> {
    let prompts = usable.model.tokenize(request, unix_seconds);
    let prompts = prompts.map_err(|refusal| Fallback::Refused(refusal.name()))?;
    // A completion of several prompts goes where its first one is warm.
    let ids = prompts.ids.first().map_or(&[][..], Vec::as_slice);
    let adapter = usable.entry.adapter(&request.model);
    let seed = blocks::seed(adapter, request.cache_salt.as_deref());
    let hashes = usable.entry.block_sizes.iter().map(|&size| {
        let local = blocks::local_hashes(ids, usize::try_from(size).unwrap_or(0), seed);
        (size.to_string(), local.into_iter().map(Hash).collect())
    });
    Ok(RouteRequest {
        adapter: adapter.map(str::to_owned),
        tokens: ids.len() as u64,
        hashes: hashes.collect(),
        token_digest: bare.explain.then(|| Hash(blocks::token_digest(ids))),
        ..bare
    })
}

/// Reads the indexer's answer.
pub fn answer(reply: &Reply, destination: Destination) -> Result<Decision, Fallback> {
    match reply.status {
        Some(200) => {
            let decision = brief::read(&reply.body).or_else(|| message::read(&reply.body).ok());
            let decision = decision.ok_or(Fallback::BadReply)?;
            if is_usable(&decision, destination) { Ok(decision) } else { Err(Fallback::BadReply) }
        }
        // Envoy's own words carry no code: a refused connection is its 503, a
        // call that took too long its 504.
        status => Err(message::read::<ErrorBody>(&reply.body)
            .ok()
            .and_then(|body| Fallback::of_code(&body.error.code))
            .unwrap_or(match status {
                None | Some(503) => Fallback::IndexerUnavailable,
                Some(504) => Fallback::IndexerTimeout,
                Some(_) => Fallback::IndexerError,
            })),
    }
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
