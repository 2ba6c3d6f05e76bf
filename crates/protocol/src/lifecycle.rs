//! What became of a routed request, as the filter tells it in batches.

use serde::{Deserialize, Serialize};

/// One step in the life of a routed request.
///
/// A body of `POST /v1/lifecycle` is a list of these, oldest first. A report
/// that is lost is made good by the next of its request: `tokens` is a total,
/// and every later event implies the first token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleReport {
    /// The id that the request was routed under.
    pub request_id: String,
    /// What happened.
    pub event: LifecycleEvent,
    /// Tokens generated so far, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Prompt tokens that the engine says it had cached
    /// (`usage.prompt_tokens_details.cached_tokens`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

/// What happened to a routed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleEvent {
    /// The first token came: the prompt is prefilled.
    FirstToken,
    /// More tokens came.
    Output,
    /// The answer is complete.
    Done,
    /// The answer will not be completed: client or worker hung up, or an error.
    Aborted,
}

/// The answer to a batch of reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleAnswer {
    /// Reports that moved a request on.
    pub applied: u64,
    /// Ids that no request in flight has: never routed here, ended, or expired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_both_encodings() {
        let reports = vec![
            LifecycleReport {
                request_id: "r-1".into(),
                event: LifecycleEvent::FirstToken,
                tokens: None,
                cached_tokens: None,
            },
            LifecycleReport {
                request_id: "r-2".into(),
                event: LifecycleEvent::Done,
                tokens: Some(120),
                cached_tokens: Some(64),
            },
        ];
        let packed = rmp_serde::to_vec_named(&reports).unwrap();
        assert_eq!(rmp_serde::from_slice::<Vec<LifecycleReport>>(&packed).unwrap(), reports);
        let json = r#"[{"request_id":"r-1","event":"first_token"},
            {"request_id":"r-2","event":"done","tokens":120,"cached_tokens":64,"later":1}]"#;
        assert_eq!(serde_json::from_str::<Vec<LifecycleReport>>(json).unwrap(), reports);
    }
}
