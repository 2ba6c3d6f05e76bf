//! `--decision-time`: how long a decision takes inside the indexer.
//!
//! Wall time of the router's own `decide`: lookup, scoring, booking and the record of
//! it, for prompts of 2,000 blocks on 64 workers. Conversations are held by one to three
//! workers each and ask on in random order, so that neither the index nor the book's tree
//! is in any cache; some hundred requests are in flight, and their reports are
//! applied between decisions, untimed. Reading the question from its bytes is
//! not in it: that is `bench gateway`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use warmpath_indexer::book::{Book, BookConfig};
use warmpath_indexer::config::{ModelConfig, WorkerConfig};
use warmpath_indexer::fleet::Fleet;
use warmpath_indexer::models::Names;
use warmpath_indexer::policy::{Policies, Settings};
use warmpath_indexer::predict::PredictConfig;
use warmpath_indexer::router::{Hashes, Question, Router};
use warmpath_protocol::{LifecycleEvent, LifecycleReport};
use warmpath_radix::{Block, EngineHash, Index, Tier};

const BLOCK: u32 = 16;
/// Conversations; with 2,000 blocks each, 16 MB of hashes a thousand.
const CONVERSATIONS: usize = 1500;
/// System prompts, and their length in blocks.
const SYSTEMS: (usize, usize) = (16, 100);
/// The new end of each prompt, in blocks.
const NEW: usize = 40;
/// Requests in flight for each worker.
const IN_FLIGHT: usize = 8;
/// What a decision may take, by issue: 99 of 100.
const BOUND_US: f64 = 50.0;

/// What was measured for one way to decide.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    policy: &'static str,
    /// Whether workers are predicted, for want of events.
    predicted: bool,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

/// Head of the table whose rows [`Figures`] are.
const HEADER: &str = "policy          index        p50      p99    p99.9 µs   p99 below 50 µs";

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, predicted, p50_us, p99_us, p999_us } = self;
        let index = if *predicted { "predicted" } else { "events" };
        let verdict = if *p99_us < BOUND_US { "pass" } else { "FAIL" };
        write!(
            formatter,
            "{policy:14} {index:10} {p50_us:6.1} {p99_us:8.1} {p999_us:8.1}      {verdict}"
        )
    }
}

/// Measures and prints; `blocks` is the length of each prompt.
pub(crate) fn run(workers: usize, blocks: usize, decisions: usize) -> Result<Vec<Figures>> {
    println!(
        "\ndecisions inside the indexer: {workers} workers, prompts of {blocks} blocks, \
         {CONVERSATIONS} conversations, {decisions} decisions each"
    );
    println!("{HEADER}");
    let mut all = Vec::new();
    for (policy, predicted) in [("ttft", false), ("cost", false), ("logit", false), ("ttft", true)]
    {
        let mut stage = Stage::new(workers, blocks, policy, predicted)?;
        // Once through everything warms allocator and book.
        stage.measure(decisions / 10)?;
        let mut took = stage.measure(decisions)?;
        took.sort_unstable();
        let at = |share: f64| {
            let last = took.len().saturating_sub(1);
            let one = took.get((share * last as f64).round() as usize).copied();
            one.unwrap_or_default().as_secs_f64() * 1e6
        };
        let figures =
            Figures { policy, predicted, p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) };
        println!("{figures}");
        all.push(figures);
    }
    Ok(all)
}

struct Stage {
    router: Router,
    fleet: Arc<Fleet>,
    prompts: Vec<Vec<u64>>,
    dice: SmallRng,
    asked: usize,
    in_flight: usize,
}

impl Stage {
    fn new(workers: usize, blocks: usize, policy: &str, predicted: bool) -> Result<Self> {
        let model = ModelConfig {
            name: "m".into(),
            path: None,
            aliases: Vec::new(),
            adapters: Vec::new(),
            block_size: Some(BLOCK),
        };
        let names = Arc::new(Names::new(vec![model]));
        let stale = Duration::from_secs(10);
        let book = Arc::new(Book::new(BookConfig::default(), stale));
        let stop = CancellationToken::new();
        let fleet = Fleet::new(Arc::new(Index::new()), Arc::clone(&names), book, stale, stop)?;
        let fleet = Arc::new(fleet);
        let mut dice = SmallRng::seed_from_u64(1);
        let mut fresh = |number: usize| (0..number).map(|_| dice.random()).collect::<Vec<u64>>();
        let systems: Vec<Vec<u64>> = (0..SYSTEMS.0).map(|_| fresh(SYSTEMS.1)).collect();
        let own = blocks.saturating_sub(SYSTEMS.1);
        let prompts: Vec<Vec<u64>> = (0..CONVERSATIONS)
            .map(|number| [systems[number % SYSTEMS.0].clone(), fresh(own)].concat())
            .collect();
        for number in 0..workers {
            let tree = serde_json::json!({
                "id": number.to_string(),
                "endpoint": format!("127.0.0.1:{}", 1000 + number),
                "total_kv_blocks": 200_000,
                "health": { "interval_ms": 0 },
            });
            fleet.add(WorkerConfig::from_tree(&tree, &["m"])?)?;
        }
        if !predicted {
            store(&fleet, &prompts, &mut dice)?;
        }
        let tree = serde_json::json!({ "policy": policy, "policy_seed": 1 });
        let policies = Policies::new(Settings::from_tree(&tree)?)?;
        let ttl_ms = if predicted { 120_000 } else { 0 };
        let router = Router::new(Arc::clone(&fleet), names, policies, 1024)
            .predicting(PredictConfig { ttl_ms, beside_events_ms: 0 });
        Ok(Self { router, fleet, prompts, dice, asked: 0, in_flight: IN_FLIGHT * workers })
    }

    fn measure(&mut self, decisions: usize) -> Result<Vec<Duration>> {
        let mut took = Vec::with_capacity(decisions);
        for _ in 0..decisions {
            let prompt = &self.prompts[self.dice.random_range(0..self.prompts.len())];
            let tokens = prompt.len() as u64 * u64::from(BLOCK) + 5;
            let hashes = Hashes::BySize(vec![(BLOCK, prompt.clone())]);
            let question = Question::new(self.asked.to_string(), Some(0), tokens, hashes);
            let begin = Instant::now();
            let record = self.router.decide(question, begin);
            took.push(begin.elapsed());
            record?;
            self.report();
            self.asked += 1;
        }
        Ok(took)
    }

    /// The first token of a request of a while ago, and the end of an older one.
    fn report(&self) {
        let lives = [
            (self.in_flight / 2, LifecycleEvent::FirstToken),
            (self.in_flight, LifecycleEvent::Done),
        ];
        let reports = lives.into_iter().filter_map(|(before, event)| {
            let request_id = self.asked.checked_sub(before)?.to_string();
            Some(LifecycleReport { request_id, event, tokens: None, cached_tokens: None })
        });
        self.fleet.book().report(reports.collect(), Instant::now());
    }
}

/// Gives each prompt but for its end to one, two or three workers.
fn store(fleet: &Fleet, prompts: &[Vec<u64>], dice: &mut SmallRng) -> Result<()> {
    let view = fleet.view();
    for prompt in prompts {
        let held = &prompt[..prompt.len().saturating_sub(NEW)];
        let blocks: Vec<Block> =
            held.iter().map(|&local| Block { local, engine: EngineHash(local) }).collect();
        for _ in 0..dice.random_range(1..=3) {
            let worker = &view.workers()[dice.random_range(0..view.workers().len())];
            let seed = warmpath_blocks::SEED;
            fleet
                .index()
                .store(worker.holder(0), Tier::Device, None, seed, &blocks)
                .map_err(|error| anyhow!("worker {}: {error}", worker.name))?;
        }
    }
    Ok(())
}
