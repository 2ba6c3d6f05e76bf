//! Why a request went where it went: one spelling for the metric, the access
//! log and the response header.

use std::fmt;

use warmpath_protocol::{Reason, code};

/// Why a request was left to Envoy's own load balancing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fallback {
    /// The plugin's configuration can not be used; the log says why.
    BadConfig,
    /// A `POST` without a body.
    NoBody,
    /// The body is larger than `max_body_bytes`.
    BodyTooLarge,
    /// Envoy did not hand the body over.
    BodyUnread,
    /// Too many prompts, or too much of them, are being worked on.
    Busy,
    /// The plugin's configuration was replaced meanwhile.
    Reconfigured,
    /// The manifest did not come yet.
    NoManifest,
    /// The breaker keeps the indexer from being asked.
    BreakerOpen,
    /// No model, alias or adapter of that name is in the manifest, or no worker serves it.
    UnknownModel,
    /// The model's tokenizer is on its way.
    ModelLoading,
    /// The model's tokenizer came and can not be used; the log says why.
    ModelFailed,
    /// The indexer offers no tokenizer for the model; its manifest says why.
    NoTable,
    /// The prompt has no exact token ids; the name is
    /// [`Refusal::name`](warmpath_prompt::Refusal::name)'s.
    Refused(&'static str),
    /// `x-warmpath-worker` is not `ID` or `ID:RANK`.
    BadPin,
    /// The question could not be written down.
    Unwritable,
    /// The indexer did not answer in time.
    IndexerTimeout,
    /// The indexer could not be reached.
    IndexerUnavailable,
    /// The indexer answered with an error of its own.
    IndexerError,
    /// The answer can not be read, or names no usable destination.
    BadReply,
    /// The indexer knows no worker that is up.
    NoWorker,
    /// The indexer, asked with the text, has too many texts at work.
    TextBusy,
    /// The pinned worker is not there.
    PinUnavailable,
    /// No policy of the name in `x-warmpath-policy`.
    UnknownPolicy,
    /// The indexer, asked with the text, can not tokenize it exactly either.
    NotExact,
    /// Envoy took the decision's header not.
    HeaderRefused,
}

impl Fallback {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadConfig => "bad_config",
            Self::NoBody => "no_body",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnread => "body_unread",
            Self::Busy => "busy",
            Self::Reconfigured => "reconfigured",
            Self::NoManifest => "no_manifest",
            Self::BreakerOpen => "breaker_open",
            Self::UnknownModel => code::UNKNOWN_MODEL,
            Self::ModelLoading => "model_loading",
            Self::ModelFailed => "model_failed",
            Self::NoTable => "no_table",
            Self::Refused(name) => name,
            Self::BadPin => "bad_pin",
            Self::Unwritable => "unwritable",
            Self::IndexerTimeout => "indexer_timeout",
            Self::IndexerUnavailable => "indexer_unavailable",
            Self::IndexerError => "indexer_error",
            Self::BadReply => "bad_reply",
            Self::NoWorker => code::NO_WORKER,
            Self::TextBusy => code::TEXT_BUSY,
            Self::PinUnavailable => code::PIN_UNAVAILABLE,
            Self::UnknownPolicy => code::UNKNOWN_POLICY,
            Self::NotExact => code::NOT_EXACT,
            Self::HeaderRefused => "header_refused",
        }
    }

    /// What an error code of the indexer means, where it is about the request
    /// and not about the indexer.
    pub fn of_code(code: &str) -> Option<Self> {
        match code {
            code::NO_WORKER => Some(Self::NoWorker),
            code::TEXT_BUSY => Some(Self::TextBusy),
            code::UNKNOWN_MODEL => Some(Self::UnknownModel),
            code::PIN_UNAVAILABLE => Some(Self::PinUnavailable),
            code::UNKNOWN_POLICY => Some(Self::UnknownPolicy),
            code::NOT_EXACT => Some(Self::NotExact),
            _ => None,
        }
    }

    /// Whether this shows an indexer that is down, too slow or broken: what the
    /// breaker counts.
    pub fn is_indexers_fault(self) -> bool {
        matches!(
            self,
            Self::IndexerTimeout | Self::IndexerUnavailable | Self::IndexerError | Self::BadReply
        )
    }
}

/// How a request that was ours to handle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went to the worker that the indexer chose.
    Routed(Reason),
    /// It went where Envoy's own balancing sent it.
    Fallback(Fallback),
    /// It was refused: all workers are busy, and the operator wants it so.
    Saturated,
    /// The client left while the indexer was asked.
    ClientGone,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routed(reason) => formatter.write_str(reason.as_str()),
            Self::Fallback(fallback) => write!(formatter, "fallback-{}", fallback.name()),
            Self::Saturated => formatter.write_str(code::SATURATED),
            Self::ClientGone => formatter.write_str("client_gone"),
        }
    }
}
