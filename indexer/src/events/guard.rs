/*!
A door in front of the ZMQ crate that lets no frame claim more than it may.

The crate (0.7) makes room for a frame as soon as its head has come, for as many
bytes as the head claims, and has no option that bounds it: a peer that claims
terabytes would end the whole process, all workers' events with it. So what comes
from a peer passes a loopback connection first, where the heads are read and the
bytes go on as they are. A frame beyond [`FRAME_MOST`] ends the connection, as
libzmq's `MAXMSGSIZE` does.

Reading ZMTP ourselves was rejected: the crate does it well, and only the lengths
are missing. The price is one more copy on the way in, on loopback.
*/

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The longest frame; an engine's step of a million new tokens is some 5 MB.
const FRAME_MOST: u64 = 256 << 20;
/// ZMTP's greeting, which comes before the first frame.
const GREETING: u64 = 64;
/// How long the crate may take to come to the door.
const ENTRANCE: Duration = Duration::from_secs(5);
const CHUNK: usize = 64 << 10;

/// A connection behind the door; dropped, it ends.
pub(crate) struct Guard {
    /// Where the crate is to connect to instead.
    pub(crate) endpoint: String,
    task: AbortHandle,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Guard {
    /// Connects to `tcp://host:port` and opens the door to it for one connection.
    pub(crate) async fn connect(endpoint: &str, patience: Duration) -> io::Result<Self> {
        let address = endpoint.strip_prefix("tcp://").unwrap_or(endpoint);
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let peer = timeout(patience, TcpStream::connect(address)).await.map_err(late)??;
        peer.set_nodelay(true)?;
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at: SocketAddr = door.local_addr()?;
        let task = tokio::spawn(async move {
            let Ok(Ok((inside, _))) = timeout(ENTRANCE, door.accept()).await else { return };
            drop(door);
            // Else a batch's last piece would wait for an acknowledgement.
            let _ = inside.set_nodelay(true);
            let (from_peer, to_peer) = peer.into_split();
            let (from_inside, to_inside) = inside.into_split();
            // Either end: both are closed when this ends.
            tokio::select! {
                _ = guarded(from_peer, to_inside) => {}
                _ = plain(from_inside, to_peer) => {}
            }
        });
        Ok(Self { endpoint: format!("tcp://{at}"), task: task.abort_handle() })
    }
}

async fn plain(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}

async fn guarded(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut heads = Heads::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
            return Ok(());
        };
        if !heads.pass(read) {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        to.write_all(read).await?;
    }
}

/// Where a stream is between its frames.
struct Heads {
    /// Bytes that are no head: of the greeting, or of a frame's body.
    body: u64,
    /// Bytes of a frame's length that are still to come; none before its flags.
    length_left: Option<u8>,
    length: u64,
}

impl Default for Heads {
    fn default() -> Self {
        Self { body: GREETING, length_left: None, length: 0 }
    }
}

impl Heads {
    /// Follows the stream through these bytes; false where a frame is too long.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        /// The flag of a frame whose length has 8 bytes instead of one.
        const LONG: u8 = 0b10;
        while !bytes.is_empty() {
            if self.body > 0 {
                let skipped = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
                self.body -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            match self.length_left {
                None => {
                    self.length = 0;
                    self.length_left = Some(if byte & LONG == 0 { 1 } else { 8 });
                }
                Some(left) => {
                    self.length = self.length << 8 | u64::from(byte);
                    self.length_left = Some(left - 1).filter(|&left| left > 0);
                    if self.length_left.is_none() {
                        if self.length > FRAME_MOST {
                            return false;
                        }
                        self.body = self.length;
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeromq::{PubSocket, Socket, SocketRecv, SocketSend, SubSocket};

    use super::*;

    fn frame(length: u64, long: bool) -> Vec<u8> {
        let mut frame = vec![if long { 2 } else { 0 }];
        match long {
            true => frame.extend(length.to_be_bytes()),
            false => frame.push(length as u8),
        }
        frame
    }

    proptest! {
        /// However the stream is cut, frames pass up to the first that is too long.
        #[test]
        fn frames_are_followed_wherever_the_stream_is_cut(
            lengths in prop::collection::vec(0_u64..600, 0..20),
            cut in 1_usize..100,
            ends in any::<bool>(),
        ) {
            let mut stream = vec![0xff; GREETING as usize];
            for &length in &lengths {
                stream.extend(frame(length, length > 255));
                // Bodies that look like heads of endless frames.
                stream.resize(stream.len() + length as usize, 0xff);
            }
            if ends {
                stream.extend(frame(FRAME_MOST + 1, true));
            }
            let mut heads = Heads::default();
            prop_assert_eq!(stream.chunks(cut).all(|chunk| heads.pass(chunk)), !ends);
        }
    }

    #[tokio::test]
    async fn messages_come_through_the_door() {
        let mut publisher = PubSocket::new();
        let bound = publisher.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
        let guard = Guard::connect(&bound, Duration::from_secs(5)).await.unwrap();
        let mut subscriber = SubSocket::new();
        subscriber.subscribe("").await.unwrap();
        subscriber.connect(&guard.endpoint).await.unwrap();
        let message = loop {
            publisher.send(vec![7_u8; 100_000].into()).await.unwrap();
            let received = timeout(Duration::from_millis(50), subscriber.recv()).await;
            if let Ok(message) = received {
                break message.unwrap();
            }
        };
        assert_eq!(message.get(0).unwrap().len(), 100_000);
    }

    #[tokio::test]
    async fn a_frame_that_claims_too_much_ends_the_connection() {
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap().to_string();
        let guard = Guard::connect(&address, Duration::from_secs(5)).await.unwrap();
        let at = guard.endpoint.strip_prefix("tcp://").unwrap();
        let mut inside = TcpStream::connect(at).await.unwrap();
        let (mut peer, _) = peer.accept().await.unwrap();
        let mut stream = vec![0xff; GREETING as usize];
        stream.extend(frame(u64::MAX >> 1, true));
        peer.write_all(&stream).await.unwrap();
        let mut passed = Vec::new();
        let _ = inside.read_to_end(&mut passed).await;
        assert!(passed.len() <= GREETING as usize, "{} bytes passed", passed.len());
    }
}
