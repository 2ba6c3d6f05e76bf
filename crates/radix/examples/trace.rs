//! Replays a request trace (JSON lines with `input_length` and `hash_ids`, an id
//! standing for 512 tokens) against the index and prints what it costs.
//!
//!     cargo run --release -p warmpath-radix --example trace -- trace.jsonl [requests]
//!
//! Eight workers of 200,000 blocks of 16 tokens take the requests in turn. Each
//! evicts the least recently used block, tail first, outside the index and outside
//! the measured time. A query is timed by itself, right before its request is
//! stored.

#[path = "../tests/support/counting.rs"]
mod counting;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use counting::{Counting, live};
use warmpath_radix::{Block, EngineHash, Holder, Index, Tier, WorkerId};

#[global_allocator]
static HEAP: Counting = Counting;

const WORKERS: usize = 8;
const CAPACITY: usize = 200_000;
/// Requests between two pauses to compute the next events.
const BATCH: usize = 500;
const QUIET: Duration = Duration::from_millis(1500);

/// An engine's cache: blocks in the order of their last use.
#[derive(Default)]
struct Cache {
    last_use: HashMap<u64, u64>,
    order: VecDeque<(u64, u64)>,
    clock: u64,
}

/// What one request does to the worker that serves it.
struct Step {
    holder: Holder,
    query: Vec<u64>,
    parent: Option<EngineHash>,
    stored: Vec<Block>,
    removed: Vec<EngineHash>,
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (number ^ (number >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (number >> 32)
}

/// The numbers of `key` in one line of the trace.
fn numbers(line: &str, key: &str) -> Vec<u64> {
    let Some((_, value)) = line.split_once(&format!("\"{key}\":")) else { return Vec::new() };
    let end = if value.trim_start().starts_with('[') { ']' } else { ',' };
    let value = value.split(end).next().unwrap_or_default();
    value.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn requests(path: &str) -> std::io::Result<Vec<Vec<u64>>> {
    let text = std::fs::read_to_string(path)?;
    Ok(text
        .lines()
        .map(|line| {
            let tokens = numbers(line, "input_length").first().copied().unwrap_or(0);
            let ids = numbers(line, "hash_ids");
            let blocks = ids.iter().flat_map(|id| (0..32).map(move |at| mix(id * 32 + at + 1)));
            blocks.take(tokens as usize / 16).collect()
        })
        .collect())
}

impl Cache {
    fn serve(&mut self, worker: usize, query: &[u64]) -> Step {
        // One name for one content; of the engine, not of the tree.
        let engine = |local: u64| EngineHash(mix(local));
        let known = query.iter().take_while(|local| self.last_use.contains_key(local)).count();
        let stored: Vec<Block> = query[known..]
            .iter()
            .filter(|local| !self.last_use.contains_key(local))
            .map(|&local| Block { local, engine: engine(local) })
            .collect();
        for &local in query.iter().rev() {
            self.clock += 1;
            self.last_use.insert(local, self.clock);
            self.order.push_back((local, self.clock));
        }
        let mut removed = Vec::new();
        while self.last_use.len() > CAPACITY
            && let Some((local, used)) = self.order.pop_front()
        {
            if self.last_use.get(&local) == Some(&used) {
                self.last_use.remove(&local);
                removed.push(engine(local));
            }
        }
        let parent = known.checked_sub(1).map(|at| engine(query[at]));
        let holder = Holder { worker: WorkerId(worker as u32), rank: 0 };
        Step { holder, query: query.to_vec(), parent, stored, removed }
    }
}

fn apply(index: &Index, step: &Step) {
    if !step.stored.is_empty() {
        index
            .store(step.holder, Tier::Device, step.parent, 0, &step.stored)
            .expect("the parent is held");
    }
    if !step.removed.is_empty() {
        index.remove(step.holder, Tier::Device, &step.removed);
    }
}

fn nanoseconds(time: Duration, blocks: usize) -> f64 {
    time.as_nanos() as f64 / blocks as f64
}

fn percentile(sorted: &[u64], per_mille: usize) -> f64 {
    let at = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1000.0)
}

/// Times of single queries, over and over until `stop` says so.
fn query(index: &Index, queries: &[Vec<u64>], stop: impl Fn() -> bool) -> Vec<u64> {
    let mut times = Vec::with_capacity(1 << 22);
    for query in queries.iter().cycle() {
        let start = Instant::now();
        let found = index.find_matches(query);
        times.push(start.elapsed().as_nanos() as u64);
        drop(std::hint::black_box(found));
        if times.len() == times.capacity() || stop() {
            break;
        }
    }
    times.sort_unstable();
    times
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "conversation_trace.jsonl".into());
    let most = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    let mut requests = requests(&path)?;
    requests.truncate(most);

    let index = Index::new();
    let mut caches: Vec<Cache> = (0..WORKERS).map(|_| Cache::default()).collect();
    let (mut times, mut queried, mut matched) = (Vec::new(), 0_usize, 0_usize);
    let (mut stored, mut removed) = (0_usize, 0_usize);
    let (mut storing, mut removing) = (Duration::ZERO, Duration::ZERO);
    let mut per_block = [Vec::new(), Vec::new()];
    let (mut heap, mut last) = (0_isize, Vec::new());
    for (number, batch) in requests.chunks(BATCH).enumerate() {
        let steps: Vec<Step> = batch
            .iter()
            .zip(number * BATCH..)
            .map(|(query, request)| caches[request % WORKERS].serve(request % WORKERS, query))
            .collect();
        times.reserve(steps.len());
        let before = live() as isize;
        for step in &steps {
            let start = Instant::now();
            let found = index.find_matches(&step.query);
            let asked = Instant::now();
            times.push((asked - start).as_nanos() as u64);
            queried += step.query.len();
            matched += found.iter().map(|found| found.blocks).max().unwrap_or(0) as usize;
            drop(found);
            let start = Instant::now();
            if !step.stored.is_empty() {
                index
                    .store(step.holder, Tier::Device, step.parent, 0, &step.stored)
                    .expect("held parent");
            }
            let between = Instant::now();
            if !step.removed.is_empty() {
                index.remove(step.holder, Tier::Device, &step.removed);
            }
            let (store, remove) = (between - start, between.elapsed());
            removing += remove;
            storing += store;
            let work = [(store, step.stored.len()), (remove, step.removed.len())];
            for (times, (time, blocks)) in per_block.iter_mut().zip(work) {
                if blocks > 0 {
                    times.push(nanoseconds(time, blocks) as u64);
                }
            }
            stored += step.stored.len();
            removed += step.removed.len();
        }
        heap += live() as isize - before;
        last = steps;
    }

    let stats = index.stats();
    let asking: u64 = times.iter().sum();
    times.sort_unstable();
    per_block.iter_mut().for_each(|times| times.sort_unstable());
    println!("{} requests, {queried} blocks queried, {matched} matched", requests.len());
    println!("{stats:?}");
    println!(
        "store {:.1} ns/block of {stored}, remove {:.1} ns/block of {removed}, both {:.1}",
        nanoseconds(storing, stored),
        nanoseconds(removing, removed),
        nanoseconds(storing, stored) + nanoseconds(removing, removed)
    );
    println!(
        "median request: store {:.0} ns/block, remove {:.0} ns/block",
        percentile(&per_block[0], 500) * 1000.0,
        percentile(&per_block[1], 500) * 1000.0
    );
    println!(
        "find_matches p50 {:.2} us, p99 {:.2} us, {:.2} ns/queried block, {:.2} ns/matched block",
        percentile(&times, 500),
        percentile(&times, 990),
        asking as f64 / queried as f64,
        asking as f64 / matched as f64
    );
    println!("heap {:.1} bytes/holder-block", heap as f64 / stats.holder_blocks as f64);

    // A reader alone, and then beside a writer that replays the last events for ever.
    let queries: Vec<Vec<u64>> = last.iter().map(|step| step.query.clone()).collect();
    for writing in [false, true] {
        let done = AtomicBool::new(false);
        let (times, rounds) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut blocks = 0;
                while writing && !done.load(Ordering::Relaxed) {
                    for step in &last {
                        let names: Vec<_> = step.stored.iter().map(|block| block.engine).collect();
                        index.remove(step.holder, Tier::Device, &names);
                        apply(
                            &index,
                            &Step {
                                removed: Vec::new(),
                                stored: step.stored.clone(),
                                query: Vec::new(),
                                ..*step
                            },
                        );
                        blocks += 2 * names.len();
                    }
                }
                blocks
            });
            let start = Instant::now();
            let times = query(&index, &queries, || start.elapsed() > QUIET);
            done.store(true, Ordering::Relaxed);
            let blocks = writer.join().expect("the writer ends");
            (times, blocks as f64 / start.elapsed().as_secs_f64())
        });
        println!(
            "reader, writer at {:.1} M blocks/s: p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us, {} queries",
            rounds / 1e6,
            percentile(&times, 500),
            percentile(&times, 990),
            percentile(&times, 999),
            times.len()
        );
    }
    Ok(())
}
