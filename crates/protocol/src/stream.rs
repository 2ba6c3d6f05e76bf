//! Decisions over one long-lived stream instead of one HTTP exchange each.
//!
//! A call of `/v1/route` costs Envoy some 35 µs beside what is asked (a request
//! object, a route, timers, header compression, statistics) and an HTTP server
//! about as much; a message on an open stream costs a tenth. Proxy-wasm's only
//! long-lived exchange is gRPC's bidirectional stream, so its framing is used,
//! and nothing more of it: the messages are the same MessagePack as over HTTP,
//! behind a number that pairs answers with questions. Answers come in any order.
//!
//! ```text
//! question    u32 number (little-endian, not 0) · RouteRequest
//! answer      u32 number · u16 HTTP status · Decision (`brief`, or MessagePack), or ErrorBody
//! ```
//!
//! A question with an empty body takes the question of its number back. Where a question
//! says `may_hold`, its first answer may have the status 202 and a [`Held`] as MessagePack:
//! the decision will come under the same number, by then. Nothing else can say so in time:
//! the asker's own deadline is tens of milliseconds and must stay that for an indexer that is
//! gone, and a longer one for all questions would make every outage as long as a hold.
//!
//! The indexer's first message is a greeting, an empty answer with number 0: until
//! it came, nobody knows whether the other end speaks this at all.

/// HTTP's status of an answer that is still to come.
pub const HELD: u16 = 202;

/// That a question is held while all workers are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    /// Milliseconds until its answer comes, at most.
    pub hold_ms: u64,
}

/// The gRPC service.
pub const STREAM_SERVICE: &str = "warmpath.v1.Indexer";
/// Its one method; both sides stream.
pub const STREAM_METHOD: &str = "Decide";
/// `/{service}/{method}`, as gRPC spells it.
pub const STREAM_PATH: &str = "/warmpath.v1.Indexer/Decide";

/// What goes before a message of gRPC: a flag byte, 0, and its length, big-endian.
pub const FRAME_HEAD: usize = 5;

/// Bytes before the body of an answer.
pub const ANSWER_HEAD: usize = 6;

/// The indexer's first message.
pub const GREETING: Answer<'static> = Answer { number: 0, status: 200, body: &[] };

/// A question as the indexer reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Pairs it with its answer.
    pub number: u32,
    /// A [`RouteRequest`](crate::RouteRequest) as MessagePack.
    pub body: &'a [u8],
}

impl<'a> Question<'a> {
    /// Reads a message's fields; nothing where it is too short.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (number, body) = message.split_first_chunk()?;
        Some(Self { number: u32::from_le_bytes(*number), body })
    }

    /// The message.
    pub fn write(self) -> Vec<u8> {
        [&self.number.to_le_bytes(), self.body].concat()
    }
}

/// An answer as the filter reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The question's.
    pub number: u32,
    /// What HTTP would have as its status.
    pub status: u16,
    /// A [`Decision`](crate::Decision), [`brief`](crate::brief) or as MessagePack, or an
    /// [`ErrorBody`](crate::ErrorBody) as MessagePack.
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads a message's fields; nothing where it is too short.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (number, rest) = message.split_first_chunk()?;
        let (status, body) = rest.split_first_chunk()?;
        let status = u16::from_le_bytes(*status);
        Some(Self { number: u32::from_le_bytes(*number), status, body })
    }

    /// The message.
    pub fn write(self) -> Vec<u8> {
        [&Self::head(self.number, self.status)[..], self.body].concat()
    }

    /// What goes before the body in the message.
    pub fn head(number: u32, status: u16) -> [u8; ANSWER_HEAD] {
        let ([a, b, c, d], [e, f]) = (number.to_le_bytes(), status.to_le_bytes());
        [a, b, c, d, e, f]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let question = Question { number: 7, body: b"body" };
        assert_eq!(Question::read(&question.write()), Some(question));
        let answer = Answer { number: u32::MAX, status: 404, body: b"" };
        assert_eq!(Answer::read(&answer.write()), Some(answer));
        assert_eq!(Answer::read(&GREETING.write()), Some(GREETING));
        assert_eq!(STREAM_PATH, format!("/{STREAM_SERVICE}/{STREAM_METHOD}"));
    }

    #[test]
    fn what_is_too_short_is_no_message() {
        assert_eq!(Question::read(&[1, 2, 3]), None);
        assert_eq!(Answer::read(&[1, 2, 3, 4, 5]), None);
    }
}
