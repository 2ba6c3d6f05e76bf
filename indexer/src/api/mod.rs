/*!
The HTTP API: paths to the library's functions, and nothing more.

Every handler reads its body as bytes and parses it itself: the extractors'
own refusals are plain text with statuses of their own choosing, and a client
must find the one error form everywhere.
*/

mod admin;
mod batch;
mod compat;
mod decisions;
mod dump;
mod error;
mod lifecycle;
mod manifest;
mod metrics;
mod overlap;
mod policy;
mod route;
mod stream;
mod text;
mod workers;

use std::sync::Arc;

use axum::Router as Paths;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post};
use stream::Streams;
use tokio_util::sync::CancellationToken;
use warmpath_protocol::stream::STREAM_PATH;
use warmpath_protocol::{
    LIFECYCLE_PATH, MANIFEST_PATH, ROUTE_PATH, ROUTE_TEXT_PATH, TABLES_PATH, code,
};

pub use admin::{Admin, admin};
pub use error::ApiError;
pub use metrics::ApiMetrics;
pub use text::TextLimit;

use crate::fleet::Fleet;
use crate::models::{Catalog, Names};
use crate::router::Router;

/// What the handlers work with.
pub struct Api {
    /// The workers.
    pub fleet: Arc<Fleet>,
    /// The models' names.
    pub names: Arc<Names>,
    /// The models' tokenizers.
    pub catalog: Arc<Catalog>,
    /// The read path.
    pub router: Router,
    /// How much text is tokenized at a time.
    pub texts: TextLimit,
    /// What was asked and refused, counted.
    pub metrics: ApiMetrics,
}

/// The paths of the API.
///
/// Streams of decisions end at `shutdown`.
pub fn api(api: Arc<Api>, max_body_bytes: usize, shutdown: CancellationToken) -> Paths {
    let streams = Streams { api: Arc::clone(&api), max_body_bytes, shutdown };
    Paths::new()
        .route(STREAM_PATH, post(stream::decide).with_state(streams))
        .route(ROUTE_PATH, post(route::route))
        .route(ROUTE_TEXT_PATH, post(text::route_text))
        .route("/v1/route/batch", post(batch::route_batch))
        .route(LIFECYCLE_PATH, post(lifecycle::lifecycle))
        .route("/v1/overlap", post(overlap::overlap))
        .route("/v1/dump", get(dump::dump))
        .route("/v1/policy", get(policy::get).put(policy::put))
        .route("/v1/workers", get(workers::list).post(workers::add))
        .route("/v1/workers/{id}", delete(workers::remove))
        .route("/v1/decisions", get(decisions::list))
        .route("/v1/decisions/{request_id}", get(decisions::one))
        .route(MANIFEST_PATH, get(manifest::manifest))
        .route(&format!("{TABLES_PATH}/{{sha256}}"), get(manifest::table))
        .route("/find_best_worker", post(compat::find_best_worker))
        .route("/free", post(lifecycle::free))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .with_state(api)
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, code::NOT_FOUND, format!("no path {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, code::BAD_REQUEST, message)
}
