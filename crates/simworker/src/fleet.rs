//! Workers: their sockets, their threads, their lives and deaths.

use std::net::SocketAddr;

use crate::Options;

/// Simulated workers in this process.
pub struct Fleet {
    workers: Vec<Worker>,
}

/// One simulated worker. Its addresses stay the same when it is restarted.
pub struct Worker {
    /// Place in the fleet, from 0.
    pub index: usize,
    /// OpenAI HTTP.
    pub http: SocketAddr,
    /// KV events of rank 0 (ZMQ PUB); rank `r` is `r` ports further.
    pub events: SocketAddr,
    /// Replay of rank 0 (ZMQ ROUTER); rank `r` is `r` ports further.
    pub replay: SocketAddr,
    /// Load metrics frames (ZMQ PUB).
    pub metrics: SocketAddr,
}

/// What a worker did, in all its lives.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Prompts that were prefilled.
    pub requests: u64,
    /// Their tokens.
    pub prompt_tokens: u64,
    /// Those of them that were found in the cache.
    pub cached_tokens: u64,
}

impl Fleet {
    /// Loads the model, binds every port and starts every worker.
    pub async fn start(options: Options) -> anyhow::Result<Fleet> {
        options.check()?;
        Ok(Fleet { workers: Vec::new() })
    }

    /// The workers, by index.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Stops every worker and waits until its ports are free.
    pub async fn shutdown(self) {}
}

impl Worker {
    /// What it did so far.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Empties the prefix cache of every rank; false where a running request holds blocks.
    ///
    /// As in vLLM, the event is published only with the next step.
    pub async fn reset(&self) -> bool {
        false
    }

    /// Drops every listener, connection and request at once, as SIGKILL would.
    pub async fn kill(&self) {}

    /// Starts it again on the same ports, with an empty cache and sequence numbers from 0.
    pub async fn restart(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
