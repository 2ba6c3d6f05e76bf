//! As much HTTP/1.1 as a benchmark needs, at next to no cost: both the client and
//! the worker stand in the way of what is measured.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a worker answers, whatever it is asked.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    content-length: 14\r\n\r\n{\"choices\":[]}";

/// One keep-alive connection, either side of it.
pub(in crate::bench) struct Connection {
    stream: TcpStream,
    /// What came beyond the last message.
    read: Vec<u8>,
}

impl Connection {
    pub(in crate::bench) async fn open(to: SocketAddr) -> Result<Self> {
        Self::new(TcpStream::connect(to).await.with_context(|| format!("nobody listens on {to}"))?)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(64 << 10) })
    }

    pub(in crate::bench) async fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(message).await?)
    }

    /// Reads one message; its status, 0 for a request, or none at the end.
    pub(in crate::bench) async fn receive(&mut self) -> Result<Option<u16>> {
        loop {
            if let Some((status, length)) = whole(&self.read)?
                && self.read.len() >= length
            {
                self.read.drain(..length);
                return Ok(Some(status));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Status and length of the message that begins here, once its head is there.
fn whole(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("0");
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a message in chunks, of which the benchmark knows nothing");
        }
    }
    Ok(Some((status.parse()?, end + 4 + length)))
}

/// A worker that answers at once, until the process ends; where it listens.
pub(in crate::bench) async fn worker() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = Connection::new(stream)?;
                while connection.receive().await?.is_some() {
                    connection.send(ANSWER).await?;
                }
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        assert_eq!(whole(ANSWER).unwrap(), Some((200, ANSWER.len())));
        let asked = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(whole(asked).unwrap(), Some((0, asked.len() - 3)));
        assert_eq!(whole(b"POST / HTTP/1.1\r\nContent-").unwrap(), None);
        assert!(whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
