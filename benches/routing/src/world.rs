//! The fleet in virtual time: the real router, simulated engines.
//!
//! The router, the index, the book and the policies are the indexer's own; only
//! the clock is made up. Engines tell of their caches at the end of each step, of
//! their load twice a second, and the filter reports lives on its timer, so that
//! the router knows as much, and as late, as it does in the field.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
use warmpath_indexer::router::{Hashes, Question, Router};
use warmpath_protocol::{LifecycleEvent, LifecycleReport};
use warmpath_radix::{Block, EngineHash, Index, Tier};

use crate::engine::{Change, Costs, Engine, Progress};
use crate::load::Load;

/// Seconds between two load reports of an engine.
const LOAD_EVERY: f64 = 0.5;
/// Seconds between two batches of reports from the filter.
const TICK: f64 = 0.1;
const STALE: Duration = Duration::from_secs(10);

/// How a fleet is run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    pub(crate) costs: Costs,
    pub(crate) settings: Settings,
    /// Whether the filter reports lives.
    pub(crate) lifecycle: bool,
}

/// What became of each request, and what each worker did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Seconds to the first token, in the order of the requests.
    pub(crate) ttft: Vec<f64>,
    /// Tokens that the engine had cached, by request.
    pub(crate) cached: Vec<u64>,
    /// Seconds of work done, by worker.
    pub(crate) worked: Vec<f64>,
    /// Requests, by worker.
    pub(crate) requests: Vec<u64>,
}

/// Microseconds of virtual time, and what then happens; earlier first.
type Event = Reverse<(u64, What)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    StepEnd(usize),
    Tick,
    LoadReport(usize),
    Arrival(usize),
}

struct World<'l> {
    load: &'l Load,
    setup: &'l Setup,
    epoch: Instant,
    now: u64,
    events: BinaryHeap<Event>,
    fleet: Arc<Fleet>,
    workers: Vec<Arc<Worker>>,
    router: Router,
    engines: Vec<Engine>,
    reports: Vec<LifecycleReport>,
    outcome: Outcome,
    open: usize,
}

/// Runs a load against a fleet. Needs a tokio runtime around it.
pub(crate) fn run(load: &Load, setup: &Setup) -> Result<Outcome> {
    let mut world = World::new(load, setup)?;
    while let Some(Reverse((at, what))) = world.events.pop() {
        world.now = at;
        match what {
            What::Arrival(request) => world.arrive(request)?,
            What::StepEnd(worker) => world.step_end(worker)?,
            What::LoadReport(worker) => world.load_report(worker),
            What::Tick => world.tick(),
        }
    }
    world.outcome.worked = world.engines.iter().map(|engine| engine.worked).collect();
    Ok(world.outcome)
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

impl<'l> World<'l> {
    fn new(load: &'l Load, setup: &'l Setup) -> Result<Self> {
        let block = u32::try_from(load.block)?;
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
        let mut workers = Vec::with_capacity(setup.workers);
        for number in 0..setup.workers {
            let tree = serde_json::json!({
                "id": number.to_string(),
                "endpoint": format!("127.0.0.1:{}", 1000 + number),
                "health": { "interval_ms": 0 },
            });
            workers.push(fleet.add(WorkerConfig::from_tree(&tree, &["m"])?)?);
        }
        let router =
            Router::new(Arc::clone(&fleet), names, Policies::new(setup.settings.clone())?, 0);
        let requests = load.requests.len();
        let mut world = Self {
            load,
            setup,
            epoch: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            fleet,
            workers,
            router,
            engines: (0..setup.workers).map(|_| Engine::new(setup.costs, load.block)).collect(),
            reports: Vec::new(),
            outcome: Outcome {
                ttft: vec![0.0; requests],
                cached: vec![0; requests],
                worked: Vec::new(),
                requests: vec![0; setup.workers],
            },
            open: requests,
        };
        world.events.extend(
            load.requests
                .iter()
                .enumerate()
                .map(|(number, request)| Reverse((micros(request.at), What::Arrival(number)))),
        );
        for worker in 0..setup.workers {
            let phase = LOAD_EVERY * worker as f64 / setup.workers as f64;
            world.later(phase, What::LoadReport(worker));
        }
        world.later(TICK, What::Tick);
        Ok(world)
    }

    fn clock(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    fn later(&mut self, seconds: f64, what: What) {
        self.events.push(Reverse((self.now + micros(seconds).max(1), what)));
    }

    fn arrive(&mut self, number: usize) -> Result<()> {
        let request = &self.load.requests[number];
        let question = Question {
            request_id: number.to_string(),
            model: Some(0),
            tokens: request.tokens,
            hashes: Hashes::BySize(vec![(u32::try_from(self.load.block)?, request.blocks.clone())]),
            policy: None,
            pin: None,
            exclude: Vec::new(),
            explain: false,
            token_digest: None,
        };
        let record = self.router.decide(question, self.clock())?;
        let worker: usize = record.decision.worker.parse().context("a worker's number")?;
        self.outcome.requests[worker] += 1;
        self.engines[worker].push(number, request);
        if !self.engines[worker].stepping {
            self.step(worker)?;
        }
        Ok(())
    }

    fn step(&mut self, worker: usize) -> Result<()> {
        if let Some(seconds) = self.engines[worker].begin() {
            self.later(seconds, What::StepEnd(worker));
        }
        self.tell_index(worker)
    }

    fn step_end(&mut self, worker: usize) -> Result<()> {
        for progress in self.engines[worker].end() {
            let (request, event) = match progress {
                Progress::First { request, cached } => {
                    let arrived = self.load.requests[request].at;
                    self.outcome.ttft[request] = self.now as f64 / 1e6 - arrived;
                    self.outcome.cached[request] = cached;
                    (request, LifecycleEvent::FirstToken)
                }
                Progress::Done { request } => {
                    self.open -= 1;
                    (request, LifecycleEvent::Done)
                }
            };
            self.reports.push(LifecycleReport {
                request_id: request.to_string(),
                event,
                tokens: None,
                cached_tokens: None,
            });
        }
        self.step(worker)
    }

    fn tell_index(&mut self, worker: usize) -> Result<()> {
        let holder = self.workers[worker].holder(0);
        for change in std::mem::take(&mut self.engines[worker].changes) {
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

    fn load_report(&mut self, worker: usize) {
        let engine = &self.engines[worker];
        let (waiting, running) = engine.counts();
        let report = Report {
            waiting: waiting as f64,
            running: Some(running as f64),
            kv_usage: engine.usage(),
        };
        let target = &self.workers[worker];
        target.report(&target.ranks[0], report, self.clock());
        if self.open > 0 {
            self.later(LOAD_EVERY, What::LoadReport(worker));
        }
    }

    fn tick(&mut self) {
        let reports = std::mem::take(&mut self.reports);
        if self.setup.lifecycle && !reports.is_empty() {
            self.fleet.book().report(reports, self.clock());
        }
        if self.open > 0 {
            self.later(TICK, What::Tick);
        }
    }
}
