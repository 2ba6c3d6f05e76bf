//! The endpoints whose bodies are understood.

/// Which of the engine's endpoints a body was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/responses`.
    Responses,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// `/v1/embeddings`.
    Embeddings,
    /// `/pooling`.
    Pooling,
    /// `/classify`.
    Classify,
    /// `/score`, `/v1/score`.
    Score,
    /// `/rerank`, `/v1/rerank`, `/v2/rerank`.
    Rerank,
    /// `/inference/v1/generate`: token ids in, token ids out.
    Generate,
}

/// The routes of vLLM 0.32, by the end of their paths.
const PATHS: [(&str, Endpoint); 10] = [
    ("/v1/chat/completions", Endpoint::Chat),
    ("/v1/completions", Endpoint::Completions),
    ("/v1/responses", Endpoint::Responses),
    ("/v1/messages", Endpoint::Messages),
    ("/v1/embeddings", Endpoint::Embeddings),
    ("/pooling", Endpoint::Pooling),
    ("/classify", Endpoint::Classify),
    ("/score", Endpoint::Score),
    ("/rerank", Endpoint::Rerank),
    ("/inference/v1/generate", Endpoint::Generate),
];

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Endpoint; 10] = [
        Endpoint::Chat,
        Endpoint::Completions,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Embeddings,
        Endpoint::Pooling,
        Endpoint::Classify,
        Endpoint::Score,
        Endpoint::Rerank,
        Endpoint::Generate,
    ];

    /// The endpoint that a request path names: a query string is ignored, and any
    /// prefix is allowed.
    pub fn of_path(path: &str) -> Option<Endpoint> {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        PATHS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, endpoint)| *endpoint)
    }
}
