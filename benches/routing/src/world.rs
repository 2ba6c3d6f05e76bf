//! The fleet in virtual time: simulated engines, and who chooses among them.
//!
//! Only the clock is made up. Engines tell of their caches at the end of each
//! step, of their load twice a second, and the filter reports lives on its timer,
//! so that a router knows as much, and as late, as it does in the field.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::Result;
use warmpath_indexer::load::Report;

use crate::chooser::{Chooser, Life};
use crate::engine::{Costs, Engine, Progress};
use crate::load::Load;

/// Seconds between two load reports of an engine.
const LOAD_EVERY: f64 = 0.5;
/// Seconds between two batches of reports from the filter.
const TICK: f64 = 0.1;
/// Into how many parts the time of arrivals is cut to see the load over time.
const PARTS: u32 = 60;

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
    /// Seconds since the start, and work done by then, by worker.
    pub(crate) course: Vec<(f64, Vec<f64>)>,
}

/// Microseconds of virtual time, and what then happens; earlier first.
type Event = Reverse<(u64, What)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    StepEnd(usize),
    Tick,
    LoadReport(usize),
    Arrival(usize),
    Part(u32),
}

struct World<'l> {
    load: &'l Load,
    chooser: &'l mut dyn Chooser,
    epoch: Instant,
    now: u64,
    events: BinaryHeap<Event>,
    engines: Vec<Engine>,
    outcome: Outcome,
    open: usize,
}

/// Runs a load against so many engines.
pub(crate) fn run(
    load: &Load,
    workers: usize,
    costs: Costs,
    chooser: &mut dyn Chooser,
) -> Result<Outcome> {
    let mut world = World::new(load, workers, costs, chooser);
    while let Some(Reverse((at, what))) = world.events.pop() {
        world.now = at;
        match what {
            What::Arrival(request) => world.arrive(request)?,
            What::StepEnd(worker) => world.step_end(worker)?,
            What::LoadReport(worker) => world.load_report(worker),
            What::Tick => world.tick(),
            What::Part(number) => world.part(number),
        }
    }
    world.outcome.worked = world.worked();
    Ok(world.outcome)
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

impl<'l> World<'l> {
    fn new(load: &'l Load, workers: usize, costs: Costs, chooser: &'l mut dyn Chooser) -> Self {
        let requests = load.requests.len();
        let mut world = Self {
            load,
            chooser,
            epoch: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            engines: (0..workers).map(|_| Engine::new(costs, load.block)).collect(),
            outcome: Outcome {
                ttft: vec![0.0; requests],
                cached: vec![0; requests],
                worked: Vec::new(),
                requests: vec![0; workers],
                course: Vec::new(),
            },
            open: requests,
        };
        world.events.extend(
            load.requests
                .iter()
                .enumerate()
                .map(|(number, request)| Reverse((micros(request.at), What::Arrival(number)))),
        );
        for worker in 0..workers {
            let phase = LOAD_EVERY * worker as f64 / workers as f64;
            world.later(phase, What::LoadReport(worker));
        }
        world.later(TICK, What::Tick);
        world.later(load.seconds() / f64::from(PARTS), What::Part(1));
        world
    }

    fn clock(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    fn later(&mut self, seconds: f64, what: What) {
        self.events.push(Reverse((self.now + micros(seconds).max(1), what)));
    }

    fn arrive(&mut self, number: usize) -> Result<()> {
        let request = &self.load.requests[number];
        let now = self.clock();
        let worker = self.chooser.choose(number, request, now)?;
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
        let changes = std::mem::take(&mut self.engines[worker].changes);
        self.chooser.changed(worker, changes)
    }

    fn step_end(&mut self, worker: usize) -> Result<()> {
        for progress in self.engines[worker].end() {
            let (request, life) = match progress {
                Progress::First { request, cached } => {
                    let arrived = self.load.requests[request].at;
                    self.outcome.ttft[request] = self.now as f64 / 1e6 - arrived;
                    self.outcome.cached[request] = cached;
                    (request, Life::First)
                }
                Progress::Done { request } => {
                    self.open -= 1;
                    (request, Life::Done)
                }
            };
            self.chooser.life(request, life)?;
        }
        self.step(worker)
    }

    fn load_report(&mut self, worker: usize) {
        let engine = &self.engines[worker];
        let (waiting, running) = engine.counts();
        let report = Report {
            waiting: waiting as f64,
            running: Some(running as f64),
            kv_usage: engine.usage(),
        };
        let now = self.clock();
        self.chooser.load(worker, report, now);
        if self.open > 0 {
            self.later(LOAD_EVERY, What::LoadReport(worker));
        }
    }

    fn tick(&mut self) {
        let now = self.clock();
        self.chooser.tick(now);
        if self.open > 0 {
            self.later(TICK, What::Tick);
        }
    }

    fn part(&mut self, number: u32) {
        let worked = self.worked();
        self.outcome.course.push((self.now as f64 / 1e6, worked));
        if number < PARTS {
            self.later(self.load.seconds() / f64::from(PARTS), What::Part(number + 1));
        }
    }

    fn worked(&self) -> Vec<f64> {
        self.engines.iter().map(|engine| engine.worked).collect()
    }
}
