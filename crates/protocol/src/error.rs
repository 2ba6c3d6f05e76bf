//! How the API says no.

use serde::{Deserialize, Serialize};

/// Body of every 4xx and 5xx answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The one field.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For programs: one of [`code`].
    pub code: String,
    /// For people: what, and what to do about it.
    pub message: String,
    /// With [`code::SATURATED`]: the seconds after which to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl ErrorBody {
    /// An error with one of the [`code`]s.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            error: ErrorDetail {
                code: code.to_owned(),
                message: message.into(),
                retry_after: None,
            },
        }
    }
}

/// The codes.
pub mod code {
    /// 400: the body can not be read as what the path takes.
    pub const BAD_REQUEST: &str = "bad_request";
    /// 404: no worker serves the model.
    pub const UNKNOWN_MODEL: &str = "unknown_model";
    /// 404: no worker of that id, no resource of that hash, no such path.
    pub const NOT_FOUND: &str = "not_found";
    /// 409: a worker of that id exists already.
    pub const CONFLICT: &str = "conflict";
    /// 422: the pinned worker does not exist, is down, or does not serve the model.
    pub const PIN_UNAVAILABLE: &str = "pin_unavailable";
    /// 422: the prompt can not be tokenized exactly; the message says why.
    pub const NOT_EXACT: &str = "not_exact";
    /// 422: no policy of that name.
    pub const UNKNOWN_POLICY: &str = "unknown_policy";
    /// 503: all workers are busy, and the operator wants requests refused then.
    pub const SATURATED: &str = "saturated";
    /// 503: as many texts are being tokenized as the operator allows.
    pub const TEXT_BUSY: &str = "text_busy";
    /// 503: no worker that serves the model is up.
    pub const NO_WORKER: &str = "no_worker";
    /// 500: a fault of ours.
    pub const INTERNAL: &str = "internal";
}
