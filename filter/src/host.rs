//! What the filter asks of its host, as a trait.
//!
//! Everything but the implementation for Envoy is written against [`Host`], so
//! that the state machine runs natively with a host of the tests' own. The
//! implementation (`host/envoy.rs`, in the module only) makes the host calls itself
//! instead of through the proxy-wasm SDK: the SDK panics on statuses that it
//! does not expect, which in Envoy means a dead VM and hanging requests, and
//! its dispatcher exports every callback, which costs a call into the VM for
//! each chunk of a streamed answer.

use std::time::Duration;

#[cfg(target_family = "wasm")]
mod envoy;
pub mod pairs;

pub use pairs::Headers;

/// A host call's refusal.
///
/// The numbers are those of the proxy-wasm ABI 0.2.1 (`WasmResult`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host answered with status {0}")]
pub struct Status(pub u32);

impl Status {
    /// A name, a map or a stream that is not there (any more).
    pub const BAD_ARGUMENT: Status = Status(2);
    /// What the host returned can not be read.
    pub const PARSE_FAILURE: Status = Status(4);
    /// The host could not do it.
    pub const INTERNAL_FAILURE: Status = Status(10);
}

/// What a stream callback returns to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on to the next filter.
    Continue = 0,
    /// Hold what came so far.
    Pause = 1,
}

/// Log levels of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Progress worth one line per VM.
    Info = 2,
    /// Something to look at; traffic goes on.
    Warn = 3,
    /// A configuration or a model that can not be used.
    Error = 4,
}

/// Kinds of metric of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricKind {
    /// Only grows.
    Counter = 0,
    /// Shared by all VMs, so it is moved by differences, never set.
    Gauge = 1,
    /// Envoy's own buckets; whole numbers only.
    Histogram = 2,
}

/// An HTTP request that the filter itself makes.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Envoy's name of the cluster.
    pub cluster: &'a str,
    /// All headers, `:method`, `:path` and `:authority` among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; may be empty.
    pub body: &'a [u8],
    /// After this Envoy itself answers, with 504.
    pub timeout: Duration,
}

/// The answer to a [`Call`].
///
/// A refused connection and a timeout are answers too: Envoy writes 503 and 504
/// with a text of its own. Only a reset stream has no status.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// `:status`, where there is one.
    pub status: Option<u16>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The host of one VM.
///
/// Calls about a request or its response mean the stream of the running
/// callback, or the one named by [`act_for`](Host::act_for) since it began.
pub trait Host {
    /// Time since the Unix epoch.
    fn now(&self) -> Duration;
    /// Writes one line to Envoy's log.
    fn log(&self, level: Level, message: &str);
    /// The plugin's configuration, as it stands in Envoy's.
    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status>;
    /// Asks for a tick every `period`.
    fn tick_every(&self, period: Duration) -> Result<(), Status>;
    /// Turns to the stream with this context id.
    fn act_for(&self, context: u32) -> Result<(), Status>;

    /// All request headers.
    fn request_headers(&self) -> Result<Headers, Status>;
    /// Sets a request header in place of all of that name.
    fn set_request_header(&self, name: &str, value: &str) -> Result<(), Status>;
    /// Removes all request headers of that name.
    fn remove_request_header(&self, name: &str) -> Result<(), Status>;
    /// `length` bytes of the held request body, from `start` on.
    fn request_body(&self, start: usize, length: usize) -> Result<Vec<u8>, Status>;
    /// Lets the held request go on. No request header can be set after it.
    fn resume_request(&self) -> Result<(), Status>;
    /// All response headers.
    fn response_headers(&self) -> Result<Headers, Status>;
    /// `length` bytes of the piece of the response body that passes, from `start` on.
    fn response_body(&self, start: usize, length: usize) -> Result<Vec<u8>, Status>;
    /// Sets a response header in place of all of that name.
    fn set_response_header(&self, name: &str, value: &str) -> Result<(), Status>;
    /// Puts `wasm.{name}` into the stream's filter state, for the access log.
    fn set_filter_state(&self, name: &str, value: &str) -> Result<(), Status>;

    /// Answers the request in a worker's place.
    fn answer(&self, status: u32, headers: &[(&str, &str)], body: &[u8]) -> Result<(), Status>;

    /// Starts a call; its answer comes with the returned token.
    fn call(&self, call: &Call<'_>) -> Result<u32, Status>;

    /// Opens a stream of gRPC to a method of a cluster's service.
    fn open_stream(&self, cluster: &str, service: &str, method: &str) -> Result<u32, Status>;
    /// Sends a message on it.
    fn send_on_stream(&self, token: u32, message: &[u8]) -> Result<(), Status>;
    /// Gives it up. One that the other side closed has to be given up as well.
    fn close_stream(&self, token: u32) -> Result<(), Status>;

    /// The id of the metric `wasmcustom.{name}`, made where it is not there.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<u32, Status>;
    /// Moves a counter or a gauge.
    fn add_to_metric(&self, id: u32, difference: i64) -> Result<(), Status>;
    /// Records a value in a histogram.
    fn record_in_metric(&self, id: u32, value: u64) -> Result<(), Status>;
}
