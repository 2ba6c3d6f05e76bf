/*!
Which workers exist, what they hold and how they are.

Names become [`WorkerId`]s here, and an id is never given twice: a worker that
was removed and added again is a new one to the index, so that a late event of
the old one can not become a claim of the new one.

Readers take a [`View`], an immutable list that an edit replaces whole. What
changes all the time (load, health, event counters) are cells inside the shared
[`Worker`]s, each with its own lock or atomics, none held longer than a copy. A
lock around one big fleet structure was rejected: a scrape of `/metrics` would
then stand in the way of decisions.
*/

mod health;
mod metrics;
mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmpath_radix::{Index, WorkerId};

pub use health::{Health, Look};
pub use metrics::FleetMetrics;
pub use worker::{Rank, Worker};

use crate::book::Book;
use crate::config::WorkerConfig;
use crate::events::Streams;
use crate::models::Names;

/// How long a removed worker's tasks may take to end before they are aborted.
const FAREWELL: Duration = Duration::from_secs(5);

/// All workers, and the tasks that keep their state.
pub struct Fleet {
    index: Arc<Index>,
    streams: Arc<Streams>,
    names: Arc<Names>,
    book: Arc<Book>,
    client: reqwest::Client,
    stale: Duration,
    follows_events: bool,
    next: AtomicU32,
    view: RwLock<Arc<View>>,
    tasks: Mutex<HashMap<WorkerId, JoinSet<()>>>,
    shutdown: CancellationToken,
}

/// The workers at one moment.
#[derive(Default)]
pub struct View {
    workers: Vec<Arc<Worker>>,
    by_model: Vec<Vec<Arc<Worker>>>,
}

impl View {
    /// Every worker, in the order in which they came.
    pub fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// The workers of one model.
    pub fn of_model(&self, model: usize) -> &[Arc<Worker>] {
        self.by_model.get(model).map_or(&[], Vec::as_slice)
    }

    /// The worker of that id, as configured.
    pub fn named(&self, id: &str) -> Option<&Arc<Worker>> {
        self.workers.iter().find(|worker| &*worker.name == id)
    }

    /// Block sizes in use among a model's workers, ascending.
    pub fn block_sizes(&self, model: usize) -> Vec<u32> {
        sizes(self.of_model(model))
    }

    /// Block sizes in use among all workers, ascending.
    pub fn all_block_sizes(&self) -> Vec<u32> {
        sizes(&self.workers)
    }

    fn of(workers: Vec<Arc<Worker>>, models: usize) -> Arc<Self> {
        let mut by_model = vec![Vec::new(); models];
        for worker in &workers {
            by_model[worker.model].push(Arc::clone(worker));
        }
        Arc::new(Self { workers, by_model })
    }
}

/// Why a worker was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The id is taken.
    #[error("a worker {0:?} exists already; remove it first")]
    Exists(String),
    /// Another worker is at that endpoint.
    #[error("worker {0:?} is at {1} already")]
    Endpoint(String, String),
    /// The model is not configured.
    #[error("no model {0:?}")]
    Model(String),
}

fn sizes(workers: &[Arc<Worker>]) -> Vec<u32> {
    let sizes: BTreeSet<u32> = workers
        .iter()
        .flat_map(|worker| worker.ranks.iter().map(|rank| worker.block_size(rank)))
        .filter(|size| *size > 0)
        .collect();
    sizes.into_iter().collect()
}

impl Fleet {
    /// A fleet without workers.
    ///
    /// `stale` is the age past which a load report counts as unknown.
    pub fn new(
        index: Arc<Index>,
        names: Arc<Names>,
        book: Arc<Book>,
        stale: Duration,
        shutdown: CancellationToken,
    ) -> Result<Self, reqwest::Error> {
        // A proxy of the environment is for the way out; workers are neighbours.
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            index,
            streams: Arc::default(),
            view: RwLock::new(View::of(Vec::new(), names.len())),
            names,
            book,
            client,
            stale,
            follows_events: true,
            next: AtomicU32::new(0),
            tasks: Mutex::default(),
            shutdown,
        })
    }

    /// The same, one that follows no worker's events, whatever its configuration says.
    pub fn without_events(self) -> Self {
        Self { follows_events: false, ..self }
    }

    /// The workers now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// The index that the workers' events go to.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The workers' event streams, and what was saved of them.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// What was routed to the workers and has not finished.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Adds a worker and starts to follow it. Needs a tokio runtime around it.
    pub fn add(&self, mut config: WorkerConfig) -> Result<Arc<Worker>, AddError> {
        config.events = config.events.filter(|_| self.follows_events);
        let model = self.names.base(&config.model).ok_or(AddError::Model(config.model.clone()))?;
        let mut view = self.view.write();
        for other in view.workers() {
            if *other.name == *config.id {
                return Err(AddError::Exists(config.id));
            }
            if other.config.endpoint == config.endpoint {
                return Err(AddError::Endpoint(other.name.to_string(), config.endpoint));
            }
        }
        let id = WorkerId(self.next.fetch_add(1, Ordering::Relaxed));
        let worker = Arc::new(Worker::new(
            id,
            model,
            self.names.block_size(model),
            self.stale,
            Arc::clone(&self.book),
            config,
            self.shutdown.child_token(),
        ));
        self.tasks.lock().insert(id, worker.follow(&self.index, &self.streams, &self.client));
        let mut workers = view.workers.clone();
        workers.push(Arc::clone(&worker));
        *view = View::of(workers, self.names.len());
        tracing::info!(worker = %worker.name, endpoint = %worker.config.endpoint, "worker added");
        Ok(worker)
    }

    /// Removes a worker: no new decision names it, its tasks end, its blocks go.
    ///
    /// Says how many blocks those were; none where there is no such worker.
    pub async fn remove(&self, name: &str) -> Option<usize> {
        let worker = {
            let mut view = self.view.write();
            let worker = Arc::clone(view.named(name)?);
            let rest = view.workers.iter().filter(|other| other.id != worker.id).cloned().collect();
            *view = View::of(rest, self.names.len());
            worker
        };
        worker.stop.cancel();
        let tasks = self.tasks.lock().remove(&worker.id);
        if let Some(tasks) = tasks {
            farewell(tasks, &worker.name).await;
        }
        // Only now: a follower that still ran could have stored behind this.
        let blocks = self.index.remove_worker(worker.id);
        worker.forget_in_flight();
        tracing::info!(worker = %worker.name, blocks, "worker removed");
        Some(blocks)
    }

    /// Waits for every task to end after shutdown.
    pub async fn join(&self) {
        let all: Vec<_> = self.tasks.lock().drain().collect();
        for (id, tasks) in all {
            farewell(tasks, &format!("#{}", id.0)).await;
        }
    }
}

async fn farewell(mut tasks: JoinSet<()>, worker: &str) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        tracing::warn!(worker, "tasks do not end; aborted");
        tasks.shutdown().await;
    }
}

/// `tcp://host:port` of rank 0 to that of a later rank; none if it is not that
/// form or its port would pass 65535.
pub fn rank_endpoint(endpoint: &str, rank: u32) -> Option<String> {
    let (host, port) = endpoint.strip_prefix("tcp://")?.rsplit_once(':')?;
    let port = u32::from(port.parse::<u16>().ok()?).checked_add(rank)?;
    let valid = !host.is_empty() && !host.contains('/') && u16::try_from(port).is_ok();
    valid.then(|| format!("tcp://{host}:{port}"))
}

#[cfg(test)]
pub(crate) mod tests;
