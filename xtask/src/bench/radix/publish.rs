//! Engines that publish KV events and do nothing else.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use super::HELD;

/// Tokens of a block.
pub(super) const BLOCK: usize = 16;
/// Blocks of a chain.
pub(super) const BLOCKS: usize = 64;
/// Batches on their way to a stream at a time: no queue may be full, it would drop some.
pub(super) const WINDOW: usize = 200;

/// What one engine stores: each chain has tokens and names of its own.
pub(super) struct Chains {
    worker: u64,
}

/// Numbers without pattern.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Chains {
    pub(super) fn new(worker: usize) -> Self {
        Self { worker: worker as u64 }
    }

    fn number(&self, chain: usize, at: usize) -> u64 {
        mix((self.worker << 48) | ((chain as u64) << 16) | at as u64)
    }

    pub(super) fn tokens(&self, chain: usize) -> Vec<u32> {
        (0..BLOCKS * BLOCK).map(|at| (self.number(chain, at) % 150_000) as u32).collect()
    }

    fn names(&self, chain: usize) -> Vec<u64> {
        (0..BLOCKS).map(|at| self.number(chain, at + BLOCKS * BLOCK)).collect()
    }
}

/// One engine.
pub(super) struct Publisher {
    pub(super) address: SocketAddr,
    socket: PubSocket,
    chains: Chains,
    block_size: u32,
    next: usize,
}

impl Publisher {
    /// `block_size` is what its events say of chains whose blocks have [`BLOCK`] tokens.
    pub(super) async fn bind(worker: usize, block_size: u32) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let address = listener.local_addr()?;
        drop(listener);
        let mut socket = PubSocket::new();
        socket.bind(&format!("tcp://{address}")).await?;
        Ok(Self { address, socket, chains: Chains::new(worker), block_size, next: 0 })
    }

    /// Publishes the batches up to that one.
    pub(super) async fn publish(&mut self, until: usize) -> Result<()> {
        for chain in std::mem::replace(&mut self.next, until)..until {
            let number = Bytes::copy_from_slice(&(chain as u64).to_be_bytes());
            let payload = Bytes::from(self.batch(chain)?);
            let frames = vec![Bytes::from_static(b"kv-events"), number, payload];
            let message =
                ZmqMessage::try_from(frames).map_err(|_| anyhow!("a message has frames"))?;
            self.socket.send(message).await?;
        }
        Ok(())
    }

    /// As vLLM 0.14 wrote it: a chain stored, the tail of the oldest removed first.
    fn batch(&self, chain: usize) -> Result<Vec<u8>> {
        let stored = (
            "BlockStored",
            self.chains.names(chain),
            None::<u64>,
            self.chains.tokens(chain),
            self.block_size,
            None::<u64>,
            "GPU",
        );
        let batch = match chain.checked_sub(HELD) {
            None => rmp_serde::to_vec(&(chain as f64, (stored,), 0)),
            Some(oldest) => {
                let mut names = self.chains.names(oldest);
                names.reverse();
                let removed = ("BlockRemoved", names, "GPU");
                rmp_serde::to_vec(&(chain as f64, (stored, removed), 0))
            }
        };
        Ok(batch?)
    }
}
