//! One worker: its configuration, its ranks, its tasks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmpath_radix::{Holder, Index, WorkerId};

use super::{Health, health, rank_endpoint};
use crate::book::{Book, RankBook};
use crate::config::WorkerConfig;
use crate::events::{self, RankStatus};
use crate::load::capacity::{CacheConfig, Capacity};
use crate::load::{self, LoadCell, Rejected, Report};

/// One engine endpoint.
pub struct Worker {
    /// Its handle in the index.
    pub id: WorkerId,
    /// Its id as configured.
    pub name: Arc<str>,
    /// Its model, by position.
    pub model: usize,
    /// What was said about it.
    pub config: WorkerConfig,
    /// Its data-parallel ranks; never empty.
    pub ranks: Vec<Rank>,
    /// Whether it answers.
    pub health: Health,
    /// Load frames that could not be read, by reason.
    pub load_rejected: Rejected,
    /// When it was added.
    pub added: Instant,
    book: Arc<Book>,
    configured_block_size: Option<u32>,
    pub(super) stop: CancellationToken,
}

/// One data-parallel rank of a worker.
pub struct Rank {
    /// Its number.
    pub rank: u32,
    /// What its events told.
    pub status: Arc<RankStatus>,
    /// What its engine says of itself.
    pub load: LoadCell,
    /// What its engine says of its KV cache's size.
    pub capacity: Capacity,
    /// What was routed to it and has not finished.
    pub book: Arc<RankBook>,
    /// Number of the last decision for it; 0 before the first.
    pub turn: AtomicU64,
    /// Decisions for it.
    pub decisions: AtomicU64,
    /// Tokens of those decisions' prompts.
    pub prompt_tokens: AtomicU64,
    /// Tokens of those that it held, or was predicted to.
    pub overlap_tokens: AtomicU64,
    /// Those of them that were only predicted.
    pub predicted_tokens: AtomicU64,
}

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        model: usize,
        configured_block_size: Option<u32>,
        stale: Duration,
        book: Arc<Book>,
        config: WorkerConfig,
        stop: CancellationToken,
    ) -> Self {
        let rank = |rank| Rank {
            rank,
            book: book.rank(Holder { worker: id, rank }),
            turn: AtomicU64::new(0),
            status: Arc::new(RankStatus::new()),
            load: LoadCell::new(stale),
            capacity: Capacity::default(),
            decisions: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            overlap_tokens: AtomicU64::new(0),
            predicted_tokens: AtomicU64::new(0),
        };
        Self {
            id,
            name: config.id.as_str().into(),
            model,
            ranks: (0..config.ranks.max(1)).map(rank).collect(),
            health: Health::default(),
            load_rejected: Rejected::default(),
            added: Instant::now(),
            book: Arc::clone(&book),
            configured_block_size,
            config,
            stop,
        }
    }

    /// The holder that a rank of it is.
    pub fn holder(&self, rank: u32) -> Holder {
        Holder { worker: self.id, rank }
    }

    /// Whether events tell what it holds.
    pub fn follows_events(&self) -> bool {
        self.config.events.is_some()
    }

    /// Whether events tell what a rank holds now: not while they fail or lack tokens.
    pub fn is_told(&self, rank: &Rank) -> bool {
        self.follows_events() && rank.status.degraded().is_none()
    }

    /// A rank's block size in tokens: what its events say, else what was
    /// configured, else, where events tell nothing, what its metrics page says;
    /// 0 where none is known.
    pub fn block_size(&self, rank: &Rank) -> u32 {
        let page = || rank.capacity.block_size().filter(|_| !self.is_told(rank));
        rank.status.block_size().or(self.configured_block_size).or_else(page).unwrap_or(0)
    }

    /// How many blocks a rank's KV cache has: what was configured, else what its
    /// metrics page says.
    pub fn kv_blocks(&self, rank: &Rank) -> Option<usize> {
        let page = || rank.capacity.blocks_of(self.block_size(rank));
        let blocks = self.config.total_kv_blocks.or_else(page)?;
        Some(usize::try_from(blocks).unwrap_or(usize::MAX))
    }

    /// Takes what the engines behind it say of their caches.
    pub(crate) fn learn_capacity(&self, engines: &[CacheConfig]) {
        if let [rank] = self.ranks.as_slice() {
            return rank.capacity.learn(engines);
        }
        for one in engines {
            if let Some(rank) = self.ranks.get(one.engine as usize) {
                rank.capacity.learn(std::slice::from_ref(one));
            }
        }
    }

    /// Takes what a rank's engine says of itself.
    pub fn report(&self, rank: &Rank, report: Report, now: Instant) {
        rank.load.report(report, now);
        self.book.engine_report(&rank.book, report, now);
    }

    /// Forgets what is in flight there.
    pub(super) fn forget_in_flight(&self) {
        self.ranks.iter().for_each(|rank| self.book.forget(&rank.book));
    }

    /// Where a rank's events come from.
    fn source(&self, rank: u32) -> Option<events::Source> {
        let config = self.config.events.as_ref().filter(|config| !config.is_polled())?;
        Some(events::Source {
            worker_name: self.name.to_string(),
            holder: self.holder(rank),
            ranks: self.config.ranks,
            endpoint: rank_endpoint(&config.endpoint, rank)?,
            replay: config.replay.as_ref().and_then(|replay| rank_endpoint(replay, rank)),
            bind: config.bind,
            topic: config.topic.clone(),
            block_size: self.configured_block_size,
        })
    }

    /// Where all ranks' events come from, where the engine is asked for them.
    fn polled(&self) -> Option<events::PollSource> {
        let config = self.config.events.as_ref().filter(|config| config.is_polled())?;
        let rank = |rank: &Rank| (self.holder(rank.rank), Arc::clone(&rank.status));
        Some(events::PollSource {
            worker_name: self.name.to_string(),
            ranks: self.ranks.iter().map(rank).collect(),
            url: config.endpoint.clone(),
            every: Duration::from_millis(config.interval_ms),
            timeout: Duration::from_millis(self.config.health.timeout_ms),
            block_size: self.configured_block_size,
        })
    }

    /// Starts the tasks that keep the worker's state; they end with its token.
    pub(super) fn follow(
        self: &Arc<Self>,
        index: &Arc<Index>,
        streams: &Arc<events::Streams>,
        client: &reqwest::Client,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for rank in &self.ranks {
            if let Some(source) = self.source(rank.rank) {
                let status = Arc::clone(&rank.status);
                let (index, streams) = (Arc::clone(index), Arc::clone(streams));
                tasks.spawn(events::follow(source, index, status, streams, self.stop.clone()));
            }
        }
        if let Some(source) = self.polled() {
            let (index, stop) = (Arc::clone(index), self.stop.clone());
            tasks.spawn(events::poll(source, client.clone(), index, stop));
        }
        if let Some(endpoint) = self.config.load.zmq.clone() {
            tasks.spawn(load::zmq::follow(Arc::clone(self), endpoint, self.stop.clone()));
        }
        if let Some(url) = self.config.load.prometheus.clone() {
            let every = Duration::from_millis(self.config.load.interval_ms);
            let client = client.clone();
            let stop = self.stop.clone();
            tasks.spawn(load::page::follow(Arc::clone(self), client, url, every, stop));
        }
        if let Some(every) = self.config.health.interval() {
            tasks.spawn(health::follow(Arc::clone(self), client.clone(), every, self.stop.clone()));
        }
        tasks
    }
}
