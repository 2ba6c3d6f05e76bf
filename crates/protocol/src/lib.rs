/*!
The messages between the filter in Envoy and the indexer beside it.

Both ends share these types, so a field can not drift between them. Each
message has one serde form that serves JSON (people, scripts, the seeds'
clients) and MessagePack with named fields (the filter) alike: a request with
8,000 hashes is 72 KB and a few microseconds as MessagePack, 160 KB and ten
times the work as JSON.

Named fields were chosen over positional ones although they cost some bytes:
the filter and the indexer are released together but upgraded one after the
other, and a reader skips a name that it does not know.

This crate knows neither HTTP nor Envoy: paths and content types are constants
here because both ends must spell them alike, no more.
*/

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod brief;
mod error;
mod hash;
mod lifecycle;
mod manifest;
mod packed;
mod route;
pub mod stream;

pub use error::{ErrorBody, ErrorDetail, code};
pub use hash::Hash;
pub use lifecycle::{LifecycleAnswer, LifecycleEvent, LifecycleReport};
pub use manifest::{Manifest, ManifestModel, Resource};
pub use route::{Decision, Pin, PinError, Reason, RouteRequest, Score};

/// Content type of JSON bodies.
pub const JSON: &str = "application/json";
/// Content type of MessagePack bodies (named fields).
pub const MESSAGE_PACK: &str = "application/msgpack";

/// Path of the routing decision, `POST`.
pub const ROUTE_PATH: &str = "/v1/route";
/// Path of the fallback that takes the client's own body, `POST`.
pub const ROUTE_TEXT_PATH: &str = "/v1/route/text";
/// Path of the reports about routed requests, `POST`.
pub const LIFECYCLE_PATH: &str = "/v1/lifecycle";
/// Path of the manifest, `GET`.
pub const MANIFEST_PATH: &str = "/v1/manifest";
/// Folder of the content-addressed resources, `GET {TABLES_PATH}/{sha256}`.
pub const TABLES_PATH: &str = "/v1/tables";
