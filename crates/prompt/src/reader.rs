//! A body read as its chunks arrive.

use crate::Refusal;
use crate::body::{Endpoint, Request, parse};

/// Reads a request's body chunk by chunk; [`parse`] of all chunks together says the
/// same.
///
/// A refusal is final: what is fed after it is not looked at, and
/// [`finish`](BodyReader::finish) repeats it.
#[derive(Debug)]
pub struct BodyReader {
    endpoint: Endpoint,
    body: Vec<u8>,
}

impl BodyReader {
    /// A reader for the body of a request to `endpoint`.
    pub fn new(endpoint: Endpoint) -> BodyReader {
        BodyReader { endpoint, body: Vec::new() }
    }

    /// Reads the next chunk, which may end anywhere.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        self.body.extend_from_slice(chunk);
        Ok(())
    }

    /// The request, now that its body is complete.
    pub fn finish(self) -> Result<Request, Refusal> {
        parse(self.endpoint, &self.body)
    }
}
