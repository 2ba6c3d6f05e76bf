//! What a request's headers say, and which of them no client may set.

use warmpath_prompt::Endpoint;

use crate::host::Headers;

/// Every header of ours begins so.
const PREFIX: &str = "x-warmpath-";
/// Where the `override_host` balancer sends a request.
pub const ENDPOINT_HEADER: &str = "x-gateway-destination-endpoint";
/// Where a `cluster_header` route sends a request.
pub const CLUSTER_HEADER: &str = "x-warmpath-cluster";
/// Which data-parallel rank of the engine takes a request.
pub const RANK_HEADER: &str = "x-data-parallel-rank";
/// Names the worker: a client's pin, and our report.
pub const WORKER_HEADER: &str = "x-warmpath-worker";
/// A client's choice of policy.
pub const POLICY_HEADER: &str = "x-warmpath-policy";
/// A client's wish for all scores.
pub const EXPLAIN_HEADER: &str = "x-warmpath-explain";

/// Tells the indexer which path a text was sent to.
pub const PATH_HEADER: &str = "x-warmpath-path";

/// What a client asked for, where it may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `x-warmpath-worker`, unread.
    pub worker: Option<String>,
    /// `x-warmpath-policy`.
    pub policy: Option<String>,
    /// `x-warmpath-explain: 1`
    pub explain: bool,
}

/// A request's headers, as far as they matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbound {
    /// What the request is for, where that is ours to handle.
    pub endpoint: Option<Endpoint>,
    /// `:path`, unread.
    pub path: String,
    /// `content-length`, where it is there.
    pub content_length: Option<u64>,
    /// `x-request-id`, which Envoy makes where the client does not.
    pub request_id: Option<String>,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// What the client asked for; default where it may not.
    pub overrides: Overrides,
    /// Names of the headers to take off before the request goes on.
    pub forged: Vec<String>,
}

impl Inbound {
    /// Reads the headers. With `overrides` a client's wishes count, and it may
    /// name a rank; its copies of the rest of our headers never survive.
    pub fn read(headers: &Headers, overrides: bool) -> Self {
        let mut inbound = Self::default();
        let mut is_post = false;
        for (name, value) in headers.iter() {
            match &*name {
                ":method" => is_post = value == "POST",
                ":path" => inbound.path = value.into_owned(),
                "content-length" => inbound.content_length = value.parse().ok(),
                "x-request-id" => inbound.request_id = Some(value.into_owned()),
                "traceparent" => inbound.traceparent = Some(value.into_owned()),
                RANK_HEADER if overrides => {}
                _ if name.starts_with(PREFIX) || name == ENDPOINT_HEADER || name == RANK_HEADER => {
                    if overrides {
                        inbound.overrides.read(&name, value.into_owned());
                    }
                    inbound.forged.push(name.into_owned());
                }
                _ => {}
            }
        }
        inbound.forged.dedup();
        inbound.endpoint = is_post.then(|| Endpoint::of_path(&inbound.path)).flatten();
        inbound
    }
}

impl Overrides {
    fn read(&mut self, name: &str, value: String) {
        match name {
            WORKER_HEADER => self.worker = Some(value),
            POLICY_HEADER => self.policy = Some(value),
            EXPLAIN_HEADER => self.explain = value == "1" || value == "true",
            _ => {}
        }
    }
}
