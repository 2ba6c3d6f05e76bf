//! Gives the engine of one rank a clock, a queue and a voice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::engine::{Engine, Gauges, Request, Sampled};
use crate::publish::Voice;

/// How far steps may lag behind the clock and still catch up.
///
/// Timers fire late by up to a millisecond, which would slow every step down;
/// measuring each from the end of the one before evens that out. After a real
/// stall there is nothing to catch up with: a GPU would not have either.
const CATCH_UP: Duration = Duration::from_millis(20);

/// What the rest of a worker asks a rank to do.
pub(crate) enum Command {
    /// Compute an answer.
    Submit {
        /// What to compute.
        request: Request,
        /// Gets every token; the request is dropped where nobody listens.
        tokens: mpsc::UnboundedSender<Sampled>,
    },
    /// Drop a request; unknown ids are ignored.
    Abort(u64),
    /// Empty the prefix cache.
    Reset {
        /// Preempt running requests for it.
        restart_running: bool,
        /// Whether it was done.
        done: oneshot::Sender<bool>,
    },
}

/// Steps remembered until somebody asks, as many as TensorRT-LLM remembers.
const ITERATIONS: usize = 1000;

/// The last steps of a rank.
#[derive(Default)]
struct Iterations {
    next: u64,
    last: VecDeque<(u64, Gauges)>,
}

/// A rank as the rest of its worker sees it.
pub(crate) struct Rank {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    gauges: Mutex<Gauges>,
    iterations: Mutex<Iterations>,
    /// Tokens of prompts that were prefilled.
    pub(crate) prompt_tokens: AtomicU64,
    /// Tokens that were sampled.
    pub(crate) generated_tokens: AtomicU64,
    /// Answers by the reason of their end, in the order of `http::FINISH_REASONS`.
    pub(crate) finished: [AtomicU64; 3],
}

impl Rank {
    pub(crate) fn gauges(&self) -> Gauges {
        *self.gauges.lock()
    }

    /// Notes the end of a step.
    fn iterated(&self) {
        let gauges = self.gauges();
        let mut iterations = self.iterations.lock();
        if iterations.last.len() == ITERATIONS {
            iterations.last.pop_front();
        }
        let number = iterations.next;
        iterations.last.push_back((number, gauges));
        iterations.next += 1;
    }

    /// The steps since this was last asked for, each with its number.
    pub(crate) fn drain_iterations(&self) -> Vec<(u64, Gauges)> {
        self.iterations.lock().last.drain(..).collect()
    }

    /// What vLLM's own balancing between ranks compares.
    pub(crate) fn load(&self) -> usize {
        let gauges = self.gauges();
        gauges.waiting * 4 + gauges.running
    }
}

/// Totals of a worker over all its lives.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) requests: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
}

/// One rank's loop.
pub(crate) struct Driver {
    engine: Engine,
    commands: mpsc::UnboundedReceiver<Command>,
    voice: Voice,
    rank: Arc<Rank>,
    totals: Arc<Totals>,
    clients: HashMap<u64, Client>,
}

struct Client {
    tokens: mpsc::UnboundedSender<Sampled>,
    /// Length of a prompt that has not been counted yet.
    prompt_tokens: Option<usize>,
}

impl Driver {
    /// The rank, and the loop that must be run for it to do anything.
    pub(crate) fn new(engine: Engine, voice: Voice, totals: Arc<Totals>) -> (Arc<Rank>, Driver) {
        let (sender, commands) = mpsc::unbounded_channel();
        let rank = Arc::new(Rank {
            commands: sender,
            gauges: Mutex::default(),
            iterations: Mutex::default(),
            prompt_tokens: AtomicU64::default(),
            generated_tokens: AtomicU64::default(),
            finished: Default::default(),
        });
        let clients = HashMap::new();
        let driver = Driver { engine, commands, voice, rank: rank.clone(), totals, clients };
        (rank, driver)
    }

    /// Steps while there is work, waits while there is none.
    pub(crate) async fn run(mut self) {
        let mut clock = Instant::now();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.apply(command);
            }
            let Some(duration) = self.engine.schedule() else {
                self.show();
                let Some(command) = self.commands.recv().await else { return };
                self.apply(command);
                clock = Instant::now();
                continue;
            };
            self.show();
            let earliest = Instant::now().checked_sub(CATCH_UP).unwrap_or(clock);
            clock = clock.max(earliest) + duration;
            self.listen_until(clock).await;
            let outcome = self.engine.complete();
            self.show();
            self.voice.publish(&outcome.events).await;
            self.rank.iterated();
            outcome.sampled.into_iter().for_each(|sampled| self.deliver(sampled));
            // Steps that take no time must still let the sockets be served.
            tokio::task::yield_now().await;
        }
    }

    async fn listen_until(&mut self, deadline: Instant) {
        let sleep = tokio::time::sleep_until(deadline);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return,
                Some(command) = self.commands.recv() => {
                    self.apply(command);
                    self.show();
                }
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Submit { request, tokens } => {
                let prompt_tokens = Some(request.prompt.len());
                self.clients.insert(request.id, Client { tokens, prompt_tokens });
                self.engine.submit(request);
            }
            Command::Abort(id) => {
                if self.clients.remove(&id).is_some() {
                    self.engine.abort(id);
                }
            }
            Command::Reset { restart_running, done } => {
                // Whoever asked may be gone; the cache is empty all the same.
                let _ = done.send(self.engine.reset(restart_running));
            }
        }
    }

    fn deliver(&mut self, sampled: Sampled) {
        let Some(client) = self.clients.get_mut(&sampled.id) else { return };
        if let Some(prompt_tokens) = client.prompt_tokens.take() {
            self.rank.prompt_tokens.fetch_add(prompt_tokens as u64, Ordering::Relaxed);
            self.totals.requests.fetch_add(1, Ordering::Relaxed);
            self.totals.prompt_tokens.fetch_add(prompt_tokens as u64, Ordering::Relaxed);
            self.totals.cached_tokens.fetch_add(sampled.cached_tokens as u64, Ordering::Relaxed);
        }
        self.rank.generated_tokens.fetch_add(1, Ordering::Relaxed);
        let gone = client.tokens.send(sampled).is_err();
        if gone || sampled.last {
            self.clients.remove(&sampled.id);
        }
        if gone && !sampled.last {
            self.engine.abort(sampled.id);
        }
    }

    fn show(&self) {
        *self.rank.gauges.lock() = self.engine.gauges();
    }
}
