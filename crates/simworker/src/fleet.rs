//! Workers as their owner sees them: addresses, lives and deaths.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;

use crate::driver::Totals;
use crate::http;
use crate::ports::Addresses;
use crate::text::Text;
use crate::worker::{Birth, Life};
use crate::{EngineKind, Options};

/// How often a restart tries to get its ports back, and how long it waits between.
const REBIND: (usize, Duration) = (50, Duration::from_millis(20));

/// Simulated workers in this process. Dropped, they die.
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
    birth: Birth,
    life: Mutex<Option<Life>>,
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
    ///
    /// Everything runs on threads of its own, so the caller's runtime may be of any kind.
    pub async fn start(options: Options) -> anyhow::Result<Fleet> {
        options.check()?;
        let options = Arc::new(options);
        let folder = options.model_path.clone();
        let text = Arc::new(tokio::task::spawn_blocking(move || Text::load(&folder)).await??);
        let bound = (0..options.num_workers)
            .map(|index| Addresses::of(&options, index)?.bind(options.ranks))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut workers = Vec::new();
        for (index, sockets) in bound.into_iter().enumerate() {
            let Addresses { http, metrics, events, replay } = sockets.addresses()?;
            let birth = Birth {
                index,
                options: options.clone(),
                text: text.clone(),
                totals: Arc::new(Totals::default()),
            };
            let life = Mutex::new(Some(Life::begin(birth.clone(), sockets).await?));
            workers.push(Worker { index, http, events, replay, metrics, birth, life });
        }
        Ok(Fleet { workers })
    }

    /// The workers, by index.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Stops every worker and waits until its ports are free.
    pub async fn shutdown(self) {
        for worker in &self.workers {
            worker.kill().await;
        }
    }
}

impl Worker {
    /// The engine that it speaks like.
    pub fn kind(&self) -> EngineKind {
        self.birth.options.engine
    }

    /// What it did so far.
    pub fn stats(&self) -> Stats {
        let Totals { requests, prompt_tokens, cached_tokens } = self.birth.totals.as_ref();
        Stats {
            requests: requests.load(Ordering::Relaxed),
            prompt_tokens: prompt_tokens.load(Ordering::Relaxed),
            cached_tokens: cached_tokens.load(Ordering::Relaxed),
        }
    }

    /// Empties the prefix cache of every rank; false where a running request holds blocks, or after a kill.
    ///
    /// As in vLLM, the event is published only with the next step.
    pub async fn reset(&self) -> bool {
        let ranks = self.life.lock().as_ref().map(|life| life.ranks.clone());
        match ranks {
            Some(ranks) => http::reset_ranks(&ranks, false).await,
            None => false,
        }
    }

    /// Drops every listener, connection and request at once, as SIGKILL would.
    pub async fn kill(&self) {
        let life = self.life.lock().take();
        if let Some(life) = life {
            life.end().await;
        }
    }

    /// Starts it again on the same ports, with an empty cache and sequence numbers from 0.
    ///
    /// One that still runs is killed before.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.kill().await;
        let Worker { http, metrics, events, replay, .. } = *self;
        let addresses = Addresses { http, metrics, events, replay };
        let (attempts, pause) = REBIND;
        let mut bound = addresses.bind(self.birth.options.ranks);
        for _ in 1..attempts {
            if bound.is_ok() {
                break;
            }
            tokio::time::sleep(pause).await;
            bound = addresses.bind(self.birth.options.ranks);
        }
        let sockets = bound.with_context(|| format!("worker {} has lost its ports", self.index))?;
        let life = Life::begin(self.birth.clone(), sockets).await?;
        *self.life.lock() = Some(life);
        Ok(())
    }
}
