//! One life of a worker: a thread, a runtime, and all that runs on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use axum::serve::ListenerExt;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::buffer::{Buffer, Drained};
use crate::driver::{Driver, Rank, Totals};
use crate::engine::{Config, Engine};
use crate::http::{self, App};
use crate::ports::Sockets;
use crate::publish::{self, Publisher, Ring, Voice};
use crate::text::Text;
use crate::wire::Encoder;
use crate::{EngineKind, Options};

/// What all lives of a worker share.
#[derive(Clone)]
pub(crate) struct Birth {
    pub(crate) index: usize,
    pub(crate) options: Arc<Options>,
    pub(crate) text: Arc<Text>,
    pub(crate) totals: Arc<Totals>,
}

/// A worker that runs. Dropped, it dies.
pub(crate) struct Life {
    pub(crate) ranks: Vec<Arc<Rank>>,
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Life {
    /// Starts a life and waits until its sockets are served.
    pub(crate) async fn begin(birth: Birth, sockets: Sockets) -> anyhow::Result<Life> {
        let (kill, killed) = oneshot::channel();
        let (ready, ranks) = oneshot::channel();
        let name = format!("simworker-{}", birth.index);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || live(birth, sockets, ready, killed))
            .context("no thread for a worker")?;
        let ranks = ranks.await.context("a worker died while it started")??;
        Ok(Life { ranks, kill, thread })
    }

    /// Ends it at once and waits until its sockets are closed.
    pub(crate) async fn end(self) {
        drop(self.kill);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a worker's thread had panicked");
        }
    }
}

type Ready = oneshot::Sender<anyhow::Result<Vec<Arc<Rank>>>>;

/// The thread. The runtime goes last and takes every socket and request with it.
fn live(birth: Birth, sockets: Sockets, ready: Ready, killed: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    let index = birth.index;
    runtime.block_on(async {
        tokio::select! {
            _ = killed => {}
            error = serve(birth, sockets, ready) => {
                tracing::error!(worker = index, ?error, "the worker died");
            }
        }
    });
    runtime.shutdown_background();
}

/// Runs until something fails.
async fn serve(birth: Birth, sockets: Sockets, ready: Ready) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let ranks = match start(&birth, sockets, &mut tasks).await {
        Ok(ranks) => ranks,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    // Nobody waits any more where the start was given up.
    let _ = ready.send(Ok(ranks));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn start(
    birth: &Birth,
    sockets: Sockets,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Vec<Arc<Rank>>> {
    let options = &birth.options;
    let engine_kind = options.engine;
    let drained = Drained::default();
    let topic = Bytes::from(options.topic.clone());
    let mut ranks = Vec::new();
    for (number, (events, replay)) in (0..).zip(sockets.events.into_iter().zip(sockets.replay)) {
        let ring: Ring = Arc::new(Mutex::new(VecDeque::new()));
        let layout = engine_kind.layout(options.event_layout);
        let replay_topic = layout.replay_topic;
        let voice = if engine_kind.publishes() {
            let encoder = Encoder {
                layout,
                byte_hashes: options.byte_hashes,
                block_size: options.block_size,
                rank: number,
            };
            let (topic, ring) = (topic.clone(), ring.clone());
            let kept = options.buffer_steps;
            Voice::Zmq(Publisher::bind(events, encoder, topic, ring, kept).await?)
        } else {
            Voice::Buffer(Buffer::new(drained.clone(), options.clone(), number))
        };
        let engine = Engine::new(engine_config(birth));
        let (rank, driver) = Driver::new(engine, voice, birth.totals.clone());
        ranks.push(rank);
        tasks.spawn(async {
            driver.run().await;
            Ok(())
        });
        if engine_kind.replays() {
            let topic = replay_topic.then(|| topic.clone());
            tasks.spawn(async { Ok(publish::replay(replay, ring, topic).await?) });
        }
    }
    let shown = ranks.clone();
    let read = move || {
        let gauges = shown.iter().map(|rank| rank.gauges());
        let (waiting, usage) = gauges.fold((0, 0.0), |(waiting, usage), gauges| {
            (waiting + gauges.waiting, usage + gauges.usage)
        });
        (waiting, usage / shown.len() as f64)
    };
    let interval = Duration::from_millis(options.metrics_interval_ms);
    tasks.spawn(async move { Ok(publish::load(sockets.metrics, interval, read).await?) });

    sockets.http.set_nonblocking(true)?;
    // A token must not wait for the acknowledgement of the one before it.
    let listener = tokio::net::TcpListener::from_std(sockets.http)?.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
    });
    let app = App::new(options.clone(), birth.text.clone(), ranks.clone(), drained);
    let router = http::router(Arc::new(app));
    tasks.spawn(async { Ok(axum::serve(listener, router).await?) });
    Ok(ranks)
}

fn engine_config(birth: &Birth) -> Config {
    let options = &birth.options;
    let own_seed = if options.divergent_hashes { birth.index as u64 + 1 } else { 0 };
    Config {
        block_size: options.block_size,
        num_blocks: options.num_blocks,
        max_num_seqs: options.max_num_seqs,
        max_num_batched_tokens: options.max_num_batched_tokens,
        prefill_tokens_per_second: options.prefill_tokens_per_second,
        decode: Duration::from_secs_f64(options.decode_ms_per_token / 1000.0),
        hash_seed: warmpath_blocks::sequence_hash(options.seed, own_seed),
        partial_blocks: options.engine == EngineKind::TrtllmHttp,
    }
}
