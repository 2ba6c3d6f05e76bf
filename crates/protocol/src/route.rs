//! One routing decision: what the filter asks and what it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Hash;

/// The question: where does this prompt go?
///
/// The prompt itself is not in it. The filter sends the local hashes of its
/// full blocks, once for each block size that the model's workers use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteRequest {
    /// The request's id, `x-request-id` where Envoy gave one.
    pub request_id: String,
    /// The model as the client named it: a served name, an alias or an adapter.
    pub model: String,
    /// The LoRA adapter whose name moved the hashes' seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The cache salt that moved the hashes' seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_salt: Option<String>,
    /// Length of the prompt in tokens, the partial last block included.
    pub tokens: u64,
    /// Block size in tokens (as a decimal key, JSON has no other) → local
    /// hashes of the prompt's full blocks, in order. MessagePack writes each list
    /// as one byte string of little-endian `u64`.
    #[serde(with = "crate::packed")]
    pub hashes: BTreeMap<String, Vec<Hash>>,
    /// Another policy than the configured one, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The worker that the client insists on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Workers that must not be chosen, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether the decision carries every worker's score.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub explain: bool,
    /// Whether the asker can be made to wait while all workers are busy: on the stream, that
    /// it understands [`Held`](crate::stream::Held). Over HTTP the header `prefer: wait=N`
    /// says so instead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_hold: bool,
    /// Higher goes first while requests are held.
    #[serde(skip_serializing_if = "is_even")]
    pub priority: i32,
    /// XXH3-64 (seed 0) of all token ids as little-endian `u32`, so that an
    /// operator can compare tokens with the engine's without seeing text. Sent
    /// with `explain` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_digest: Option<Hash>,
}

/// The answer to a [`RouteRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The chosen worker's id.
    pub worker: String,
    /// The data-parallel rank inside it; 0 where it has no ranks.
    #[serde(default)]
    pub rank: u32,
    /// How many ranks the worker has; the filter names a rank to the engine
    /// only where there is more than one.
    #[serde(default = "one")]
    pub ranks: u32,
    /// `ip:port` as Envoy's cluster spells it.
    pub endpoint: String,
    /// The worker's own Envoy cluster, for the `cluster_header` destination.
    #[serde(default)]
    pub cluster: String,
    /// Endpoints to try after this one, best first.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    /// Leading blocks of the prompt that the worker holds, or is predicted to.
    #[serde(default)]
    pub overlap_blocks: u32,
    /// The last of those, which are only predicted: no event has told of them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub predicted_blocks: u32,
    /// Full blocks of the prompt, in the chosen worker's block size.
    #[serde(default)]
    pub total_blocks: u32,
    /// The chosen worker's block size in tokens; 0 where none is known yet.
    #[serde(default)]
    pub block_size: u32,
    /// Why this worker.
    pub reason: Reason,
    /// Milliseconds since the index last heard of the chosen worker's rank;
    /// absent where it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_age_ms: Option<u64>,
    /// Every candidate's score, where `explain` asked for it; best first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Vec<Score>>,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(number: &u32) -> bool {
    *number == 0
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The worker holds a prefix of the prompt.
    Prefix,
    /// No worker holds a prefix worth following; the least loaded one.
    Load,
    /// The client pinned the worker.
    Pinned,
}

impl Reason {
    /// The spelling in headers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Load => "load",
            Self::Pinned => "pinned",
        }
    }
}

/// One candidate as the policy saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The worker's id.
    pub worker: String,
    /// Its rank.
    pub rank: u32,
    /// What the policy computed; the greatest wins.
    pub score: f64,
    /// Leading blocks of the prompt that it holds, or is predicted to.
    pub overlap_blocks: u32,
    /// The last of those, which are only predicted.
    #[serde(default, skip_serializing_if = "is_none")]
    pub predicted_blocks: u32,
    /// Whether it has as much to do as it should, by the operator's thresholds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub busy: bool,
    /// Share of its KV cache in use, 0 to 1.
    pub kv_usage: f64,
    /// Requests that wait in its queue, ours since its last report included.
    pub waiting: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_even(priority: &i32) -> bool {
    *priority == 0
}

/// A worker that a client insists on: `ID` or `ID:RANK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin {
    /// The worker's id.
    pub worker: String,
    /// The rank inside it; any where absent.
    pub rank: Option<u32>,
}

/// A pin that is not `ID` or `ID:RANK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinError(String);

impl fmt::Display for PinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pin {:?} is not a worker id or ID:RANK", self.0)
    }
}

impl std::error::Error for PinError {}

impl FromStr for Pin {
    type Err = PinError;

    /// A worker id may itself hold colons; only a numeric last part is a rank.
    fn from_str(text: &str) -> Result<Self, PinError> {
        let (worker, rank) = match text.rsplit_once(':').map(|(id, rank)| (id, rank.parse().ok())) {
            Some((id, Some(rank))) => (id, Some(rank)),
            _ => (text, None),
        };
        if worker.is_empty() {
            return Err(PinError(text.to_owned()));
        }
        Ok(Self { worker: worker.to_owned(), rank })
    }
}

impl TryFrom<String> for Pin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        match pin.rank {
            Some(rank) => format!("{}:{rank}", pin.worker),
            None => pin.worker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_both_encodings() {
        let request = RouteRequest {
            request_id: "r-1".into(),
            model: "tiny".into(),
            tokens: 40,
            hashes: [("16".to_owned(), vec![Hash(u64::MAX), Hash(1)])].into(),
            pin: Some(Pin { worker: "0".into(), rank: Some(1) }),
            ..Default::default()
        };
        let packed = rmp_serde::to_vec_named(&request).unwrap();
        assert_eq!(rmp_serde::from_slice::<RouteRequest>(&packed).unwrap(), request);
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<RouteRequest>(&json).unwrap(), request);
    }

    #[test]
    fn a_reader_skips_fields_of_a_newer_release() {
        let read: RouteRequest =
            serde_json::from_str(r#"{"model":"tiny","tokens":1,"hashes":{},"later":[1,2]}"#)
                .unwrap();
        assert_eq!(read.model, "tiny");
    }

    #[test]
    fn a_pin_names_a_worker_and_perhaps_a_rank() {
        assert_eq!("a:3".parse(), Ok(Pin { worker: "a".into(), rank: Some(3) }));
        assert_eq!("a:b".parse(), Ok(Pin { worker: "a:b".into(), rank: None }));
        assert!("".parse::<Pin>().is_err());
        assert!(":1".parse::<Pin>().is_err());
    }
}
