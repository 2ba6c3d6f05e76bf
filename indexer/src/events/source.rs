/*!
Where the frames come from: a ZMQ subscription that outlives its peers.

The socket is rebuilt here whenever its peer goes, although the zeromq crate
(0.7) reconnects by itself: its pause grows to 30 s, in which an engine that is
back is not heard, its first connection has a rule of its own, and it tells of a
lost peer only on the monitor. It sends no heartbeats, so a peer that vanished
without closing looks like a quiet one: after a long quiet the caller asks for a
new connection.

The crate reads from the connection only as we receive, so a full channel here
becomes TCP's back pressure and then the publisher's queue, which drops beyond
its mark; the sequence numbers show it. The channel is full by number or by bytes:
batches are from a hundred bytes to megabytes.
*/

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket, ZmqError};

use super::Source;
use super::guard::Guard;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What happens on a subscription.
pub(super) enum Signal {
    /// There is a connection, and it may lead to another life of the engine.
    Connected,
    /// There is none; it is being sought.
    Disconnected,
    /// A published message, all its frames, and the room that it takes until it is
    /// worked off.
    Message(Vec<Bytes>, OwnedSemaphorePermit),
}

/// Bytes of messages that may wait; a permit is so many of them.
const BACKLOG_BYTES: usize = 64 << 20;
const PERMIT_BYTES: usize = 1 << 10;
const PERMITS: usize = BACKLOG_BYTES / PERMIT_BYTES;

/// Waits for the room that a message takes; one larger than all of it has it alone.
async fn room(backlog: &Arc<Semaphore>, frames: &[Bytes]) -> Option<OwnedSemaphorePermit> {
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    let permits = (bytes / PERMIT_BYTES + 1).min(PERMITS);
    let permits = u32::try_from(permits).unwrap_or(u32::MAX);
    Arc::clone(backlog).acquire_many_owned(permits).await.ok()
}

/// Subscribes, for ever, until nobody receives the signals any more.
///
/// A ring of `renew` replaces the connection.
pub(super) async fn subscribe(source: &Source, renew: &Notify, out: mpsc::Sender<Signal>) {
    let Some(endpoint) = endpoint(source) else {
        tracing::error!(
            worker = source.worker_name,
            endpoint = source.endpoint,
            "not an endpoint for KV events: write tcp://host:port"
        );
        return out.closed().await;
    };
    let backlog = Arc::new(Semaphore::new(PERMITS));
    let mut pause = FIRST_PAUSE;
    while !out.is_closed() {
        let (mut socket, _guard) = match open(source, &endpoint).await {
            Ok(open) => open,
            Err(error) => {
                tracing::debug!(worker = source.worker_name, endpoint, %error, "no KV events");
                if out.send(Signal::Disconnected).await.is_err() {
                    return;
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        if out.send(Signal::Connected).await.is_err() {
            return;
        }
        match receive(&mut socket, source.bind, renew, &backlog, &out).await {
            End::Renew => {}
            End::Lost => {
                if out.send(Signal::Disconnected).await.is_err() {
                    return;
                }
                sleep(FIRST_PAUSE).await;
            }
            End::Closed => return,
        }
    }
}

enum End {
    Lost,
    Renew,
    Closed,
}

/// The socket, and the door that it is behind; a bound one has none, since its peers
/// come to the crate itself.
async fn open(source: &Source, endpoint: &str) -> Result<(SubSocket, Option<Guard>), ZmqError> {
    let mut options = SocketOptions::default();
    options.connect_timeout(CONNECT_TIMEOUT);
    let mut socket = SubSocket::with_options(options);
    socket.subscribe(&source.topic).await?;
    if source.bind {
        socket.bind(endpoint).await?;
        return Ok((socket, None));
    }
    let guard = Guard::connect(endpoint, CONNECT_TIMEOUT).await?;
    socket.connect(&guard.endpoint).await?;
    Ok((socket, Some(guard)))
}

async fn receive(
    socket: &mut SubSocket,
    bound: bool,
    renew: &Notify,
    backlog: &Arc<Semaphore>,
    out: &mpsc::Sender<Signal>,
) -> End {
    let mut monitor = socket.monitor();
    loop {
        let signal = tokio::select! {
            // In this order: what a lost peer sent before is received first.
            biased;
            message = socket.recv() => match message {
                Ok(message) => {
                    let frames = message.into_vec();
                    match room(backlog, &frames).await {
                        Some(room) => Signal::Message(frames, room),
                        None => return End::Closed,
                    }
                }
                // One peer of a bound socket went wrong; the others go on.
                Err(_) if bound => continue,
                Err(_) => return End::Lost,
            },
            event = monitor.next() => match event {
                Some(SocketEvent::Accepted(..)) => Signal::Connected,
                Some(SocketEvent::Disconnected(_)) if !bound => return End::Lost,
                Some(_) => continue,
                None => return End::Lost,
            },
            () = renew.notified() => match bound {
                true => continue,
                false => return End::Renew,
            },
        };
        if out.send(signal).await.is_err() {
            return End::Closed;
        }
    }
}

/// The endpoint as the crate takes it, which panics at other transports than TCP.
///
/// Engines write `*` for every interface.
fn endpoint(source: &Source) -> Option<String> {
    let address = source.endpoint.strip_prefix("tcp://")?;
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = match (host, source.bind) {
        ("" | "*", true) => "0.0.0.0",
        ("" | "*", false) => "127.0.0.1",
        (host, _) => host,
    };
    Some(format!("tcp://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_by_bytes_and_a_message_beyond_them_still_passes() {
        let backlog = Arc::new(Semaphore::new(PERMITS));
        let small = [Bytes::from_static(b"topic"), Bytes::from(vec![0; 10 * PERMIT_BYTES])];
        let held = room(&backlog, &small).await.unwrap();
        assert_eq!(backlog.available_permits(), PERMITS - 11);
        let huge = [Bytes::from(vec![0; BACKLOG_BYTES + 1])];
        let mut waits = Box::pin(room(&backlog, &huge));
        assert!(futures::poll!(&mut waits).is_pending());
        drop(held);
        let all = waits.await.unwrap();
        assert_eq!(backlog.available_permits(), 0);
        drop(all);
        assert_eq!(backlog.available_permits(), PERMITS);
    }
}
