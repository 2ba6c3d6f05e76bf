//! A request read as the chunks of its body arrive.

use crate::body::{self, Endpoint, Request};
use crate::json::Reader;
use crate::{Cache, Refusal};

/// Reads a request's body chunk by chunk, each of them once; how it is cut makes no
/// difference.
#[derive(Debug)]
pub struct BodyReader {
    endpoint: Endpoint,
    reader: Result<Reader, Refusal>,
}

impl BodyReader {
    /// A reader for the body of a request to `endpoint`.
    pub fn new(endpoint: Endpoint) -> BodyReader {
        let reader = match endpoint {
            Endpoint::Chat => Reader::of_chat(),
            _ => Reader::default(),
        };
        BodyReader { endpoint, reader: Ok(reader) }
    }

    /// Reads the next chunk, which may end anywhere. Messages that a conversation had
    /// before it came through `cache` are recognised instead of read.
    ///
    /// A refusal is final: later chunks are not looked at, and
    /// [`finish`](BodyReader::finish) repeats it. What was read so far is dropped.
    pub fn feed(&mut self, chunk: &[u8], cache: &mut Cache) -> Result<(), Refusal> {
        let fed = match &mut self.reader {
            Ok(reader) if cache.is_off() => reader.feed(chunk).map_err(Refusal::from),
            Ok(reader) => reader.feed_known(chunk, cache).map_err(Refusal::from),
            Err(refusal) => Err(refusal.clone()),
        };
        if let Err(refusal) = &fed {
            self.reader = Err(refusal.clone());
        }
        fed
    }

    /// The request, now that its body is complete.
    pub fn finish(self) -> Result<Request, Refusal> {
        let (json, trail) = self.reader?.finish_chat()?;
        body::read(self.endpoint, json, trail)
    }
}

/// Reads a whole body: one chunk of a [`BodyReader`].
pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Request, Refusal> {
    let mut reader = BodyReader::new(endpoint);
    reader.feed(body, &mut Cache::new(0))?;
    reader.finish()
}
