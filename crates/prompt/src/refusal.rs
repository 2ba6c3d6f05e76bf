//! Why a body has no exact token ids.

/// Why a request's token ids cannot be known exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The body is not JSON.
    #[error("the body is not JSON")]
    NotJson,
}

impl Refusal {
    /// Stable snake_case name, for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::NotJson => "not_json",
        }
    }
}
