//! `cargo xtask bench radix --through-indexer`: the index where it is used.
//!
//! The real program, as released, with simulated publishers of KV events and a client of its
//! API in this process. Where the time goes is learned by leaving work out: events of a block
//! size that the indexer does not serve are decoded and not hashed, hashing alone is measured
//! here, and what is left is applying; questions without hashes are answered without being
//! searched for, questions that nobody holds any of are read and not found. Processor time is
//! the indexer's own, by `/proc`, so it hardly depends on what else the machine does.

mod publish;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use warmpath_testbed::build::{self, Profile};
use warmpath_testbed::indexer::{Engine, EngineKind, Indexer};
use warmpath_testbed::measure::Percentiles;
use warmpath_testbed::stack::{GatewayOptions, tiny_model};

use super::gateway::processor_time;
use super::gateway::wire::Connection;
use crate::output;
use publish::{BLOCK, BLOCKS, Chains, Publisher};

/// Event streams.
const WORKERS: usize = 4;
/// Batches of each: a chain stored and an older one removed.
const BATCHES: usize = 6_000;
/// Chains that a worker holds before it removes.
const HELD: usize = 3_000;
/// Blocks of a question.
const PROMPT: usize = 512;
const CONNECTIONS: usize = 16;
const ASKING: Duration = Duration::from_secs(3);

#[derive(Serialize)]
struct Events {
    batches_per_second: f64,
    blocks_per_second: f64,
    /// Of the indexer's processor time, for each block stored or removed.
    receive_and_decode_ns: f64,
    hash_ns: f64,
    apply_ns: f64,
}

#[derive(Serialize)]
struct Questions {
    what: &'static str,
    per_second: f64,
    one_at_a_time_us: f64,
    /// Of the indexer's processor time.
    processor_us: f64,
}

#[derive(Serialize)]
struct Report {
    workers: usize,
    blocks_of_a_question: usize,
    events: Events,
    questions: Vec<Questions>,
}

pub(super) async fn run(as_json: bool) -> Result<()> {
    let step = output::step("building the indexer");
    build::indexer(Profile::Release)?;
    step.done();
    let folder = TempDir::new().context("can not make a temporary folder")?;
    let step = output::step("events of a block size that is not served");
    let (decoded, ..) = publish_to(&folder, BLOCK as u32 + 1).await?;
    step.done();
    let step = output::step("events");
    let (all, rate, indexer) = publish_to(&folder, BLOCK as u32).await?;
    step.done();
    let hash_ns = hashing();
    let blocks = (WORKERS * blocks_of_a_stream()) as f64;
    let decode_ns = decoded * 1000.0 / blocks;
    let events = Events {
        batches_per_second: rate,
        blocks_per_second: rate * blocks / (WORKERS * BATCHES) as f64,
        receive_and_decode_ns: decode_ns,
        hash_ns,
        apply_ns: all * 1000.0 / blocks - decode_ns - hash_ns,
    };
    let mut questions = Vec::new();
    for (what, hashes) in questions_asked() {
        let step = output::step(&format!("questions: {what}"));
        questions.push(ask(&indexer, what, &hashes).await?);
        step.done();
    }
    let report = Report { workers: WORKERS, blocks_of_a_question: PROMPT, events, questions };
    report.print();
    if as_json {
        output::json(&report)?;
    }
    Ok(())
}

/// Blocks that one stream stores and removes.
fn blocks_of_a_stream() -> usize {
    BLOCKS * (BATCHES + BATCHES - HELD)
}

/// Starts an indexer and publishes all events to it: its processor time in microseconds,
/// batches per second, and itself.
async fn publish_to(folder: &TempDir, block_size: u32) -> Result<(f64, f64, Indexer)> {
    let (mut publishers, mut servers) = (Vec::new(), Vec::new());
    for worker in 0..WORKERS {
        servers.push(super::gateway::wire::worker().await?);
        publishers.push(Publisher::bind(worker, block_size).await?);
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let engines: Vec<Engine> = publishers
        .iter()
        .zip(servers)
        .map(|(publisher, http)| Engine {
            kind: EngineKind::Vllm,
            http,
            events: publisher.address,
            replay: nobody,
            metrics: None,
        })
        .collect();
    let mut options = GatewayOptions::new("bench", &tiny_model()).indexer;
    options.profile = Profile::Release;
    options.block_size = Some(BLOCK);
    let indexer = Indexer::start(&options, &engines, folder.path()).await?;
    let before = processor_time(indexer.pid());
    let start = Instant::now();
    for from in (0..BATCHES).step_by(publish::WINDOW) {
        let until = (from + publish::WINDOW).min(BATCHES);
        for publisher in &mut publishers {
            publisher.publish(until).await?;
        }
        arrived(&indexer, until as u64 - 1).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let spent = processor_time(indexer.pid()) - before;
    Ok((spent, (WORKERS * BATCHES) as f64 / seconds, indexer))
}

/// Waits until every stream has come to that batch.
async fn arrived(indexer: &Indexer, last: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let list = indexer.get("/v1/workers").await?;
        let workers = list["workers"].as_array().map_or(&[][..], Vec::as_slice);
        let reached = |worker: &serde_json::Value| {
            worker["ranks"][0]["events"]["last_seq"].as_u64().is_some_and(|seq| seq >= last)
        };
        if workers.len() == WORKERS && workers.iter().all(reached) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "batch {last} has not come everywhere: {list}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Nanoseconds to hash a block's tokens, spread over the blocks that are removed as well.
fn hashing() -> f64 {
    let chains = Chains::new(0);
    let tokens: Vec<Vec<u32>> = (0..200).map(|number| chains.tokens(number)).collect();
    let start = Instant::now();
    for tokens in &tokens {
        std::hint::black_box(warmpath_blocks::local_hashes(tokens, BLOCK, warmpath_blocks::SEED));
    }
    let each = start.elapsed().as_nanos() as f64 / (tokens.len() * BLOCKS) as f64;
    each * (BATCHES * BLOCKS) as f64 / blocks_of_a_stream() as f64
}

/// Without hashes, with hashes that nobody has, with such as are held.
fn questions_asked() -> [(&'static str, Vec<Vec<u64>>); 3] {
    let number = |at: usize| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let unknown = |question: usize| (0..PROMPT).map(|at| number(question << 20 | at)).collect();
    let held = |question: usize| {
        let chains = Chains::new(question % WORKERS);
        let tokens = chains.tokens(BATCHES - 1 - question % (HELD / 2));
        let mut hashes = warmpath_blocks::local_hashes(&tokens, BLOCK, warmpath_blocks::SEED);
        hashes.extend((hashes.len()..PROMPT).map(|at| number(question << 20 | at)));
        hashes
    };
    [
        ("no hashes", vec![Vec::new()]),
        ("nobody has any", (0..256).map(unknown).collect()),
        ("some held", (0..256).map(held).collect()),
    ]
}

async fn ask(indexer: &Indexer, what: &'static str, hashes: &[Vec<u64>]) -> Result<Questions> {
    let messages: Vec<Vec<u8>> = hashes
        .iter()
        .map(|hashes| {
            let tokens = hashes.len() * BLOCK;
            let body = json!({"model": "bench", "tokens": tokens, "hashes": {"16": hashes}});
            let body = body.to_string();
            let length = body.len();
            format!(
                "POST /v1/route HTTP/1.1\r\nhost: i\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .into_bytes()
        })
        .collect();
    let (alone, ..) = ask_from(indexer.api, &messages, 1).await?;
    let before = processor_time(indexer.pid());
    let (times, seconds) = ask_from(indexer.api, &messages, CONNECTIONS).await?;
    let spent = processor_time(indexer.pid()) - before;
    Ok(Questions {
        what,
        per_second: times.len() as f64 / seconds,
        one_at_a_time_us: Percentiles::of(alone).p50,
        processor_us: spent / times.len() as f64,
    })
}

/// Asks from so many connections at once; what each answer took, in microseconds.
async fn ask_from(
    to: SocketAddr,
    messages: &[Vec<u8>],
    connections: usize,
) -> Result<(Vec<f64>, f64)> {
    let start = Instant::now();
    let one = async |number: usize| {
        let mut connection = Connection::open(to).await?;
        let mut times = Vec::new();
        for message in messages.iter().cycle().skip(number * 7) {
            let asked = Instant::now();
            connection.send(message).await?;
            let status = connection.receive().await?;
            ensure!(status == Some(200), "the indexer answered {status:?}");
            times.push(asked.elapsed().as_secs_f64() * 1e6);
            if start.elapsed() > ASKING {
                break;
            }
        }
        anyhow::Ok(times)
    };
    let all = futures::future::try_join_all((0..connections).map(one)).await?;
    Ok((all.concat(), start.elapsed().as_secs_f64()))
}

impl Report {
    fn print(&self) {
        let Events { batches_per_second, blocks_per_second, .. } = self.events;
        println!(
            "\nevents of {WORKERS} engines over ZMQ: {BLOCKS} blocks of {BLOCK} tokens stored and as many removed in a batch"
        );
        println!("  {batches_per_second:.0} batches/s, {blocks_per_second:.0} blocks/s");
        println!(
            "  ns of processor time a block: receive and decode {:.0}, hash {:.0}, apply {:.0}",
            self.events.receive_and_decode_ns, self.events.hash_ns, self.events.apply_ns
        );
        println!("decisions over HTTP/1.1, JSON, {PROMPT} hashes");
        println!("{:18}{:>12}{:>18}{:>18}", "", "decisions/s", "processor µs", "µs one at a time");
        for Questions { what, per_second, one_at_a_time_us, processor_us } in &self.questions {
            println!("  {what:16}{per_second:>12.0}{processor_us:>18.1}{one_at_a_time_us:>18.0}");
        }
    }
}
