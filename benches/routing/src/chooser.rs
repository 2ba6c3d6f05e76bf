//! What chooses a worker: ours, or another's behind the same four questions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio_util::sync::CancellationToken;
use warmpath_indexer::book::{Book, BookConfig};
use warmpath_indexer::config::{ModelConfig, WorkerConfig};
use warmpath_indexer::fleet::{Fleet, Worker};
use warmpath_indexer::load::Report;
use warmpath_indexer::models::Names;
use warmpath_indexer::policy::{Policies, Settings};
use warmpath_indexer::predict::PredictConfig;
use warmpath_indexer::router::{Hashes, Question, Router};
use warmpath_protocol::{LifecycleEvent, LifecycleReport};
use warmpath_radix::{Block, EngineHash, Index, Tier};

use crate::engine::Change;
use crate::load::Request;

const STALE: Duration = Duration::from_secs(10);

/// A step in the life of a request, as whoever carries its answer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    First,
    Done,
}

/// Chooses workers and is told what they do; moments are of virtual time.
pub(crate) trait Chooser {
    /// The worker for a request, which is booked there.
    fn choose(&mut self, number: usize, request: &Request, now: Instant) -> Result<usize>;
    /// What a worker's cache gained and lost.
    fn changed(&mut self, worker: usize, changes: Vec<Change>) -> Result<()>;
    /// What a worker says of its load.
    fn load(&mut self, worker: usize, report: Report, now: Instant);
    /// A request had its first token, or ended.
    fn life(&mut self, number: usize, life: Life) -> Result<()>;
    /// The filter's timer.
    fn tick(&mut self, now: Instant);
}

/// What the indexer learns of the engines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knowing {
    /// Whether first tokens and ends are reported.
    pub(crate) lifecycle: bool,
    /// Whether engines tell of their caches.
    pub(crate) kv_events: bool,
    /// Milliseconds for which a worker is predicted to hold what was routed to it.
    pub(crate) predict_ms: u64,
    /// Blocks of a worker's cache.
    pub(crate) kv_blocks: u64,
}

/// The indexer's own router, index and book.
pub(crate) struct Ours {
    block: u32,
    fleet: Arc<Fleet>,
    workers: Vec<Arc<Worker>>,
    router: Router,
    knowing: Knowing,
    reports: Vec<LifecycleReport>,
}

impl Ours {
    /// For so many workers; needs a tokio runtime around it.
    pub(crate) fn new(
        workers: usize,
        block: u64,
        settings: Settings,
        knowing: Knowing,
    ) -> Result<Self> {
        let block = u32::try_from(block)?;
        let model = ModelConfig {
            name: "m".into(),
            path: None,
            aliases: Vec::new(),
            adapters: Vec::new(),
            block_size: Some(block),
        };
        let names = Arc::new(Names::new(vec![model]));
        let book = Arc::new(Book::new(BookConfig::default(), STALE));
        let index = Arc::new(Index::new());
        let stop = CancellationToken::new();
        let fleet = Arc::new(Fleet::new(index, Arc::clone(&names), book, STALE, stop)?);
        let add = |number: usize| {
            let tree = serde_json::json!({
                "id": number.to_string(),
                "endpoint": format!("127.0.0.1:{}", 1000 + number),
                "health": { "interval_ms": 0 },
                "total_kv_blocks": knowing.kv_blocks,
            });
            Ok(fleet.add(WorkerConfig::from_tree(&tree, &["m"])?)?)
        };
        let workers = (0..workers).map(add).collect::<Result<_>>()?;
        let router = Router::new(Arc::clone(&fleet), names, Policies::new(settings)?, 0)
            // No worker here has a source of events: the bench tells the index itself.
            .predicting(PredictConfig { ttl_ms: knowing.predict_ms, beside_events_ms: 0 });
        Ok(Self { block, fleet, workers, router, knowing, reports: Vec::new() })
    }
}

impl Chooser for Ours {
    fn choose(&mut self, number: usize, request: &Request, now: Instant) -> Result<usize> {
        let hashes = Hashes::BySize(vec![(self.block, request.blocks.clone())]);
        let question = Question::new(number.to_string(), Some(0), request.tokens, hashes);
        let record = self.router.decide(question, now)?;
        record.decision.worker.parse().context("a worker's number")
    }

    fn changed(&mut self, worker: usize, changes: Vec<Change>) -> Result<()> {
        let holder = self.workers[worker].holder(0);
        for change in changes.into_iter().filter(|_| self.knowing.kv_events) {
            match change {
                Change::Stored(parent, blocks) => {
                    let blocks: Vec<Block> = blocks
                        .into_iter()
                        .map(|block| Block { local: block, engine: EngineHash(block) })
                        .collect();
                    let parent = parent.map(EngineHash);
                    self.fleet
                        .index()
                        .store(holder, Tier::Device, parent, warmpath_blocks::SEED, &blocks)
                        .map_err(|error| anyhow!("worker {worker}: {error}"))?;
                }
                Change::Removed(block) => {
                    self.fleet.index().remove(holder, Tier::Device, &[EngineHash(block)]);
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, worker: usize, report: Report, now: Instant) {
        let target = &self.workers[worker];
        target.report(&target.ranks[0], report, now);
    }

    fn life(&mut self, number: usize, life: Life) -> Result<()> {
        self.reports.push(LifecycleReport {
            request_id: number.to_string(),
            event: match life {
                Life::First => LifecycleEvent::FirstToken,
                Life::Done => LifecycleEvent::Done,
            },
            tokens: None,
            cached_tokens: None,
        });
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        let reports = std::mem::take(&mut self.reports);
        self.router.expire_predictions(now);
        if self.knowing.lifecycle && !reports.is_empty() {
            self.fleet.book().report(reports, now);
        }
    }
}
