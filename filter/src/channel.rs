//! The stream on which decisions are asked for; `warmpath_protocol::stream` says why.
//!
//! It is kept open beside the ordinary calls, never instead of them: until the
//! indexer's greeting came, and whenever the stream is gone, questions go as calls.
//! So an indexer that does not know it, or a cluster that does not speak HTTP/2,
//! costs speed and nothing else.

use warmpath_protocol::stream::{Answer, Question, STREAM_METHOD, STREAM_SERVICE};

use crate::host::{Host, Reply, Status};

/// The stream of one VM.
#[derive(Debug, Default)]
pub struct Channel {
    token: Option<u32>,
    is_greeted: bool,
    /// Number of the last question.
    last: u32,
}

/// What came over the stream.
#[derive(Debug)]
pub enum Heard {
    /// The indexer speaks the protocol.
    Greeting,
    /// The answer to the question of this number.
    Answer(u32, Reply),
}

impl Channel {
    /// Whether questions can be asked.
    pub fn is_ready(&self) -> bool {
        self.token.is_some() && self.is_greeted
    }

    /// Opens the stream where there is none.
    pub fn open(&mut self, host: &dyn Host, cluster: &str) {
        if self.token.is_none() {
            self.is_greeted = false;
            // Without a stream there are calls; the next tick tries again.
            self.token = host.open_stream(cluster, STREAM_SERVICE, STREAM_METHOD).ok();
        }
    }

    /// Whether that is the token of the stream.
    pub fn is(&self, token: u32) -> bool {
        self.token == Some(token)
    }

    /// Sends a question; its answer will come with the returned number.
    pub fn ask(&mut self, host: &dyn Host, body: &[u8]) -> Result<u32, Status> {
        let token = self.token.ok_or(Status::BAD_ARGUMENT)?;
        // 0 is the greeting's.
        let number = self.last.checked_add(1).unwrap_or(1);
        host.send_on_stream(token, &Question { number, body }.write())?;
        self.last = number;
        Ok(number)
    }

    /// Takes a question back: nobody waits for its answer any more.
    pub fn take_back(&self, host: &dyn Host, number: u32) {
        if let Some(token) = self.token {
            // A stream that takes nothing more has forgotten the question, too.
            let _gone = host.send_on_stream(token, &Question { number, body: &[] }.write());
        }
    }

    /// Reads a message; nothing where it is none of the protocol.
    pub fn on_message(&mut self, message: &[u8]) -> Option<Heard> {
        let Answer { number, status, body } = Answer::read(message)?;
        if number == 0 {
            self.is_greeted = status == 200;
            return Some(Heard::Greeting);
        }
        Some(Heard::Answer(number, Reply { status: Some(status), body: body.to_vec() }))
    }

    /// Gives the stream up, ours or already the other side's will.
    pub fn close(&mut self, host: &dyn Host) {
        if let Some(token) = self.token.take() {
            // One that Envoy knows no longer is as good as closed.
            let _gone = host.close_stream(token);
        }
    }
}
