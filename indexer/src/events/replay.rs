/*!
Asking an engine for batches that were missed, over its replay socket.

The request is `[][first number, 8 bytes big-endian]` from a DEALER to a ROUTER.
vLLM since 0.26 answers `[][topic][number][payload]` per batch and ends with
`[][][ff × 8][]`; vLLM to 0.25 and SGLang leave the topic out of both. So the
last two frames are the batch in either, and an empty payload is the end.

The ROUTER drops what its peer's queue has no room for, the end marker too;
therefore the caller asks again from where the answer broke off, as long as that
brings anything. Each wait is short: a socket that nobody serves must not hold
up live events.
*/

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use zeromq::{DealerSocket, Socket, SocketOptions, SocketRecv, SocketSend, ZmqError, ZmqMessage};

use super::guard::Guard;

/// The longest wait for one message, and for the connection.
const WAIT: Duration = Duration::from_secs(1);
/// The longest time for one whole answer.
const TOTAL: Duration = Duration::from_secs(10);

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error("no answer in time")]
    Timeout,
    #[error("an answer that is no batch: {0} frames")]
    Layout(usize),
    #[error(transparent)]
    Socket(#[from] ZmqError),
}

/// An answer that is being read.
pub(super) struct Replay {
    socket: DealerSocket,
    _guard: Guard,
    until: Instant,
}

impl Replay {
    /// Asks for every batch from `first` on.
    pub(super) async fn request(endpoint: &str, first: u64) -> Result<Self, ReplayError> {
        let mut options = SocketOptions::default();
        options.connect_timeout(WAIT);
        let mut socket = DealerSocket::with_options(options);
        let request = vec![Bytes::new(), Bytes::copy_from_slice(&first.to_be_bytes())];
        let request = ZmqMessage::try_from(request).map_err(|_| ReplayError::Layout(0))?;
        let guard = timeout(WAIT, async {
            let guard = Guard::connect(endpoint, WAIT).await?;
            socket.connect(&guard.endpoint).await?;
            socket.send(request).await?;
            Ok::<_, ZmqError>(guard)
        })
        .await
        .map_err(|_| ReplayError::Timeout)??;
        Ok(Self { socket, _guard: guard, until: Instant::now() + TOTAL })
    }

    /// The next batch, or nothing at the end marker.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, ReplayError> {
        let wait = self.until.min(Instant::now() + WAIT);
        let reply = timeout_at(wait, self.socket.recv()).await;
        parse(&reply.map_err(|_| ReplayError::Timeout)??.into_vec())
    }
}

fn parse(frames: &[Bytes]) -> Result<Option<(u64, Bytes)>, ReplayError> {
    let layout = || ReplayError::Layout(frames.len());
    let [.., number, payload] = frames else { return Err(layout()) };
    if payload.is_empty() {
        return Ok(None);
    }
    let number = number.as_ref().try_into().map_err(|_| layout())?;
    Ok(Some((u64::from_be_bytes(number), payload.clone())))
}

#[cfg(test)]
mod tests;
