//! A question for the indexer, written down.

use warmpath_protocol::{JSON, MESSAGE_PACK, ROUTE_PATH, ROUTE_TEXT_PATH, RouteRequest};

use crate::inbound::{EXPLAIN_HEADER, Inbound, PATH_HEADER, POLICY_HEADER, WORKER_HEADER};
use crate::reason::Fallback;

/// A question for the indexer, written down.
#[derive(Debug)]
pub struct Asking {
    /// Where it goes.
    pub path: &'static str,
    /// Headers beside method, path and authority.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asking {
    /// `POST /v1/route`: the prompt as hashes.
    pub fn hashes(inbound: &Inbound, mut route: RouteRequest) -> Result<Self, Fallback> {
        route.request_id = inbound.request_id.clone().unwrap_or_default();
        // Heeded on the stream only, where the indexer can say that it holds a question.
        route.may_hold = true;
        let body = rmp_serde::to_vec_named(&route).map_err(|_| Fallback::Unwritable)?;
        Ok(Self::new(inbound, ROUTE_PATH, MESSAGE_PACK, Vec::new(), body))
    }

    /// `POST /v1/route/text`: the client's own body.
    pub fn text(inbound: &Inbound, body: Vec<u8>) -> Self {
        let overrides = &inbound.overrides;
        let more = vec![
            (PATH_HEADER, Some(inbound.path.clone())),
            (WORKER_HEADER, overrides.worker.clone()),
            (POLICY_HEADER, overrides.policy.clone()),
            (EXPLAIN_HEADER, overrides.explain.then(|| "1".to_owned())),
        ];
        Self::new(inbound, ROUTE_TEXT_PATH, JSON, more, body)
    }

    fn new(
        inbound: &Inbound,
        path: &'static str,
        content: &str,
        more: Vec<(&'static str, Option<String>)>,
        body: Vec<u8>,
    ) -> Self {
        let mut headers = vec![("content-type", content.to_owned())];
        let known = [
            ("x-request-id", inbound.request_id.clone()),
            ("traceparent", inbound.traceparent.clone()),
        ];
        let optional = known.into_iter().chain(more);
        headers.extend(optional.filter_map(|(name, value)| Some((name, value?))));
        Self { path, headers, body }
    }
}
