//! Bodies.
use crate::Refusal;

/// Which OpenAI endpoint a body was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

impl Endpoint {
    /// The endpoint that `path` names; any prefix before `/v1/`, and a query string, are allowed.
    pub fn of_path(path: &str) -> Option<Endpoint> {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        if path.ends_with("/v1/chat/completions") {
            Some(Endpoint::Chat)
        } else if path.ends_with("/v1/completions") {
            Some(Endpoint::Completions)
        } else {
            None
        }
    }
}

/// A parsed body.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model that the client named.
    pub model: String,
    /// The client's prefix-cache salt.
    pub cache_salt: Option<String>,
}

/// Reads a body.
pub fn parse(_endpoint: Endpoint, _body: &[u8]) -> Result<Request, Refusal> {
    Err(Refusal::NotJson)
}
