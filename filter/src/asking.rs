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
    /// The id that the request is routed under.
    pub request_id: String,
}

impl Asking {
    /// `POST /v1/route`: the prompt as hashes.
    pub fn hashes(
        inbound: &Inbound,
        mut route: RouteRequest,
        made_up_id: String,
    ) -> Result<Self, Fallback> {
        let request_id = inbound.request_id.clone().unwrap_or(made_up_id);
        route.request_id.clone_from(&request_id);
        let body = rmp_serde::to_vec_named(&route).map_err(|_| Fallback::Unwritable)?;
        Ok(Self::new(inbound, ROUTE_PATH, MESSAGE_PACK, Vec::new(), body, request_id))
    }

    /// `POST /v1/route/text`: the client's own body.
    pub fn text(inbound: &Inbound, body: Vec<u8>, made_up_id: String) -> Self {
        let request_id = inbound.request_id.clone().unwrap_or(made_up_id);
        let overrides = &inbound.overrides;
        let more = vec![
            (PATH_HEADER, Some(inbound.path.clone())),
            (WORKER_HEADER, overrides.worker.clone()),
            (POLICY_HEADER, overrides.policy.clone()),
            (EXPLAIN_HEADER, overrides.explain.then(|| "1".to_owned())),
        ];
        Self::new(inbound, ROUTE_TEXT_PATH, JSON, more, body, request_id)
    }

    fn new(
        inbound: &Inbound,
        path: &'static str,
        content: &str,
        more: Vec<(&'static str, Option<String>)>,
        body: Vec<u8>,
        request_id: String,
    ) -> Self {
        let mut headers =
            vec![("content-type", content.to_owned()), ("x-request-id", request_id.clone())];
        let optional = [("traceparent", inbound.traceparent.clone())].into_iter().chain(more);
        headers.extend(optional.filter_map(|(name, value)| Some((name, value?))));
        Self { path, headers, body, request_id }
    }
}
