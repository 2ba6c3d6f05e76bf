//! The measurements of one index, each made by a process of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cache::{Fleet, Step};
use crate::engine::Engine;
use crate::heap;
use crate::trace::Block;

/// Requests whose events are computed before any of them is measured.
const BATCH: usize = 200;
/// Requests that are looked up one after the other before their events are applied,
/// one for each worker: a thread pool is woken once for all.
const TOGETHER: usize = 8;
/// Requests at the end that readers ask and writers churn.
const LAST: usize = 500;
/// How long a reader asks.
const READING: Duration = Duration::from_millis(1500);
/// Requests measured once an index has grown.
const GROWN: usize = 2_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Times over the trace, and of readers beside a writer
    Trace,
    /// Heap and answers over the trace
    Check,
    /// Times at one size
    Growth,
    /// Heap at one size
    GrownHeap,
}

impl Part {
    /// The word on the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Lookups by one reader.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reads {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) per_second: f64,
    /// Blocks that the writer removed and stored meanwhile.
    pub(crate) written_blocks_per_second: f64,
}

/// What one process found out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) holder_blocks: usize,
    pub(crate) requests: usize,
    pub(crate) queried_blocks: usize,
    pub(crate) stored_blocks: usize,
    pub(crate) removed_blocks: usize,
    /// Processor time of all events by the blocks that they stored and removed.
    pub(crate) write_ns_per_block: f64,
    pub(crate) find_p50_us: f64,
    pub(crate) find_p99_us: f64,
    /// Processor time of all lookups by the blocks that they asked for.
    pub(crate) find_ns_per_block: f64,
    pub(crate) bytes_per_holder_block: Option<f64>,
    /// Lookups answered otherwise than the workers' caches say.
    pub(crate) wrong_answers: Option<usize>,
    pub(crate) quiet: Option<Reads>,
    pub(crate) loaded: Option<Reads>,
}

/// Where requests come from and whom they go to.
pub(crate) struct Load {
    pub(crate) requests: Box<dyn Iterator<Item = Vec<Block>>>,
    pub(crate) fleet: Fleet,
}

#[derive(Default)]
struct Clock {
    asking: Duration,
    writing: Duration,
    finds: Vec<u64>,
    queried: usize,
    stored: usize,
    removed: usize,
}

impl Load {
    fn batch(&mut self) -> Vec<Step> {
        self.requests.by_ref().take(BATCH).map(|request| self.fleet.serve(&request)).collect()
    }

    /// As many as are looked up together, with what has to be found.
    fn checked(&mut self) -> (Vec<Step>, Vec<Vec<(u32, u32)>>) {
        let requests: Vec<_> = self.requests.by_ref().take(TOGETHER).collect();
        let answers = requests.iter().map(|request| self.fleet.overlaps(request)).collect();
        (requests.iter().map(|request| self.fleet.serve(request)).collect(), answers)
    }
}

impl Clock {
    /// Looks up and applies what the steps say; what was found.
    fn run<E: Engine>(&mut self, index: &E, steps: &[Step]) -> Vec<E::Found> {
        let mut found = Vec::with_capacity(steps.len());
        for steps in steps.chunks(TOGETHER) {
            // A router has decoded both a moment before: they are not waited for.
            let mut queries: Vec<_> = steps.iter().map(|step| E::query(&step.query)).collect();
            let events = E::events(steps);
            let start = cpu();
            for query in &mut queries {
                let start = Instant::now();
                let answer = index.find(query);
                self.finds.push(start.elapsed().as_nanos() as u64);
                found.push(answer);
            }
            let asked = cpu();
            index.apply(events);
            self.writing += cpu() - asked;
            self.asking += asked - start;
        }
        self.queried += steps.iter().map(|step| step.query.len()).sum::<usize>();
        self.written(steps);
        found
    }

    fn written(&mut self, steps: &[Step]) {
        self.stored += steps.iter().map(|step| step.stored.len()).sum::<usize>();
        self.removed += steps.iter().map(|step| step.removed.len()).sum::<usize>();
    }

    fn figures(mut self, holder_blocks: usize) -> Figures {
        self.finds.sort_unstable();
        Figures {
            holder_blocks,
            requests: self.finds.len(),
            queried_blocks: self.queried,
            stored_blocks: self.stored,
            removed_blocks: self.removed,
            write_ns_per_block: self.writing.as_nanos() as f64
                / (self.stored + self.removed).max(1) as f64,
            find_p50_us: percentile(&self.finds, 500),
            find_p99_us: percentile(&self.finds, 990),
            find_ns_per_block: self.asking.as_nanos() as f64 / self.queried.max(1) as f64,
            ..Figures::default()
        }
    }
}

/// The processor time of this process, all threads together: what a shared machine
/// gives to others in between does not count.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn percentile(sorted: &[u64], per_mille: usize) -> f64 {
    let at = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1000.0)
}

/// Times over all requests, and the steps at the end.
pub(crate) fn trace<E: Engine>(index: &E, load: &mut Load) -> (Figures, Vec<Step>) {
    let (mut clock, mut last) = (Clock::default(), Vec::new());
    loop {
        let steps = load.batch();
        if steps.is_empty() {
            break;
        }
        clock.run(index, &steps);
        last.extend(steps);
        last.drain(..last.len().saturating_sub(LAST));
    }
    (clock.figures(load.fleet.blocks()), last)
}

/// Heap and answers over all requests; counting makes the times worthless.
pub(crate) fn check<E: Engine>(
    make: fn() -> E,
    load: impl FnOnce() -> Result<Load>,
) -> Result<Figures> {
    let before = Live::now();
    let mut load = load()?;
    let index = make();
    let (mut clock, mut wrong) = (Clock::default(), 0);
    loop {
        let (steps, answers) = load.checked();
        if steps.is_empty() {
            break;
        }
        let found = clock.run(&index, &steps);
        wrong +=
            found.iter().zip(answers).filter(|(found, right)| E::answer(found) != *right).count();
    }
    let blocks = load.fleet.blocks();
    let mut figures = clock.figures(blocks);
    drop(load);
    figures.wrong_answers = Some(wrong);
    figures.bytes_per_holder_block = Some(before.bytes_per(blocks));
    drop(index);
    Ok(figures)
}

/// Grows to `blocks` and measures what requests cost there.
pub(crate) fn growth<E: Engine>(make: fn() -> E, mut load: Load, blocks: usize) -> Figures {
    let index = make();
    // Workers fill unevenly; the last of them make the rest turn over.
    while load.fleet.blocks() < blocks - blocks / 50 {
        index.apply(E::events(&load.batch()));
    }
    let mut clock = Clock::default();
    while clock.finds.len() < GROWN {
        clock.run(&index, &load.batch());
    }
    clock.figures(load.fleet.blocks())
}

/// Grows to `blocks` and measures the heap.
pub(crate) fn grown_heap<E: Engine>(
    make: fn() -> E,
    load: impl FnOnce() -> Result<Load>,
    blocks: usize,
) -> Result<Figures> {
    let before = Live::now();
    let mut load = load()?;
    let index = make();
    while load.fleet.blocks() < blocks - blocks / 50 {
        index.apply(E::events(&load.batch()));
    }
    let blocks = load.fleet.blocks();
    drop(load);
    let bytes_per_holder_block = Some(before.bytes_per(blocks));
    drop(index);
    Ok(Figures { holder_blocks: blocks, bytes_per_holder_block, ..Figures::default() })
}

struct Live(isize);

impl Live {
    fn now() -> Self {
        heap::start();
        Self(heap::live())
    }

    /// What lives now and did not then, by `blocks`.
    fn bytes_per(&self, blocks: usize) -> f64 {
        (heap::live() - self.0) as f64 / blocks.max(1) as f64
    }
}

/// A reader alone, then beside a writer at full rate.
pub(crate) fn readers<E: Engine + Sync>(index: &E, last: &[Step]) -> (Reads, Reads) {
    let churned: Vec<Step> = last.iter().filter(|step| !step.stored.is_empty()).cloned().collect();
    let [quiet, loaded] = [false, true].map(|writing| {
        let done = AtomicBool::new(!writing);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| index.churn(&churned, &done));
            let start = Instant::now();
            let mut times = Vec::with_capacity(1 << 22);
            'asking: loop {
                let mut queries: Vec<_> = last.iter().map(|step| E::query(&step.query)).collect();
                for query in &mut queries {
                    let asked = Instant::now();
                    let found = index.find(query);
                    times.push(asked.elapsed().as_nanos() as u64);
                    drop(std::hint::black_box(found));
                    if times.len() == times.capacity() || start.elapsed() > READING {
                        break 'asking;
                    }
                }
            }
            let seconds = start.elapsed().as_secs_f64();
            done.store(true, Ordering::Relaxed);
            let written = writer.join().expect("the writer ends");
            times.sort_unstable();
            Reads {
                p50_us: percentile(&times, 500),
                p99_us: percentile(&times, 990),
                p999_us: percentile(&times, 999),
                per_second: times.len() as f64 / seconds,
                written_blocks_per_second: written as f64 / seconds,
            }
        })
    });
    (quiet, loaded)
}
