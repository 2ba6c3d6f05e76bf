/*!
Follows one event stream through losses, restarts and silence.

Two halves in one task: one receives, the other decides and writes the index, so
that live batches are taken in while a replay is on its way. What is replayed
goes through the same sequence as what is live, which drops what came twice.

Every replay begins *at* the last batch applied, not behind it: if that comes
back with the same bytes the engine is the one that we know, and what follows is
what we missed; if it comes back otherwise, or not at all, the engine has begun
anew. That is the only way to learn of a restart before the next request. What an earlier
process saved is taken up by the same question (`saved`).
*/

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use warmpath_radix::Index;

use super::replay::{Replay, ReplayError};
use super::saved::{Entry, Shared, Streams};
use super::sequence::Mark;
use super::source::{Signal, subscribe};
use super::{Applier, RankStatus, Source, Verdict};

/// Live batches taken in while one is being applied or a replay runs.
const BACKLOG: usize = 4096;
/// Answers asked for in one go, each from where the last broke off.
const ROUNDS: usize = 32;
/// How long a replay socket that did not answer is left alone.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// After a connection: a batch may have fallen between replay and subscription.
const SETTLED: Duration = Duration::from_secs(1);
/// Silence after which the engine is asked whether it is the same, and whether
/// the end of a burst was dropped.
const QUIET: Duration = Duration::from_secs(15);
/// Silence after which a connection without a replay socket is replaced.
const QUIET_BLIND: Duration = Duration::from_secs(60);
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// Follows `source` and writes what it says into `index`, until `shutdown`.
///
/// It never returns before and survives everything else: a worker that is not
/// there, lies, or vanishes has a [`RankStatus`] that says so. What the stream's
/// holder has stays in the index; whoever removes a worker clears it afterwards.
pub async fn follow(
    source: Source,
    index: Arc<Index>,
    status: Arc<RankStatus>,
    streams: Arc<Streams>,
    shutdown: CancellationToken,
) {
    let broke = || {
        status.reject("internal");
        index.clear(source.holder);
    };
    let life = || live(source.clone(), index.clone(), status.clone(), streams.clone());
    survive(&source.worker_name, life, broke, &shutdown).await;
    status.update(|status| status.connected = false);
}

/// Lives one life after the other until `shutdown`, and tells `broke` of each end.
pub(super) async fn survive<L>(
    worker: &str,
    life: impl Fn() -> L,
    broke: impl Fn(),
    shutdown: &CancellationToken,
) where
    L: Future<Output = ()> + Send + 'static,
{
    let lives = async {
        loop {
            // A panic below, ours or a socket crate's, ends a task of its own.
            let mut task = JoinSet::new();
            task.spawn(life());
            task.join_next().await;
            tracing::error!(worker, "the event stream's task broke off");
            broke();
            sleep(PAUSE_AFTER_PANIC).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = lives => {}
    }
}

async fn live(source: Source, index: Arc<Index>, status: Arc<RankStatus>, streams: Arc<Streams>) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let renew = Notify::new();
    let applier = Arc::new(Shared::new(Applier::new(&source, index, status.clone())));
    if source.replay.is_some() {
        streams.follow(&source.worker_name, source.holder.rank, &status, &applier);
    }
    let follower = Follower {
        applier,
        streams: &streams,
        source: &source,
        status: &status,
        renew: &renew,
        silent_until: None,
        answers: false,
        incomplete: false,
    };
    tokio::join!(subscribe(&source, &renew, sender), follower.run(receiver));
}

/// How a replay went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// To its end; true if it brought anything new.
    Complete(bool),
    /// It broke off; true if it got further than before.
    Broken(bool),
}

struct Follower<'a> {
    applier: Arc<Shared>,
    streams: &'a Streams,
    source: &'a Source,
    status: &'a RankStatus,
    renew: &'a Notify,
    /// The replay socket did not answer and is left alone until then.
    silent_until: Option<Instant>,
    /// The replay socket has brought batches: it keeps them, so that an empty
    /// answer means something.
    answers: bool,
    /// Batches are missing that the engine may still have.
    incomplete: bool,
}

impl Follower<'_> {
    async fn run(mut self, mut signals: mpsc::Receiver<Signal>) {
        let quiet = if self.source.replay.is_some() { QUIET } else { QUIET_BLIND };
        let mut probe: Option<Instant> = None;
        loop {
            let signal = match probe {
                Some(probe) => timeout_at(probe, signals.recv()).await,
                None => Ok(signals.recv().await),
            };
            match signal {
                Ok(Some(Signal::Connected)) => {
                    self.status.update(|status| status.connected = true);
                    self.silent_until = None;
                    self.resume().await;
                    if !matches!(self.replay(true).await, Outcome::Complete(_)) {
                        self.incomplete |= self.applier.lock().await.last().is_none();
                    }
                    self.status.update(|status| status.synced = true);
                    let settled = if self.source.replay.is_some() { SETTLED } else { quiet };
                    probe = Some(Instant::now() + settled);
                }
                Ok(Some(Signal::Disconnected)) => {
                    self.status.update(|status| status.connected = false);
                    probe = None;
                }
                Ok(Some(Signal::Message(frames, room))) => {
                    self.message(&frames).await;
                    drop(room);
                    probe = Some(Instant::now() + quiet);
                }
                Ok(None) => return,
                Err(_) => {
                    self.quiet().await;
                    probe = Some(Instant::now() + quiet);
                }
            }
        }
    }

    async fn message(&mut self, frames: &[bytes::Bytes]) {
        let (verdict, seq, payload) = {
            let mut applier = self.applier.lock().await;
            let Some((seq, payload)) = applier.split(frames) else { return };
            (applier.offer(seq, payload), seq, payload)
        };
        match verdict {
            Verdict::Applied | Verdict::Duplicate => return,
            Verdict::Gap { .. } => self.status.update(|status| status.gaps += 1),
            Verdict::Restarted => {}
        }
        let outcome = self.replay(false).await;
        let mut applier = self.applier.lock().await;
        match applier.offer(seq, payload) {
            Verdict::Applied | Verdict::Duplicate => {}
            Verdict::Gap { .. } | Verdict::Restarted => {
                self.incomplete |= !matches!(outcome, Outcome::Complete(_));
                applier.apply_after_loss(seq, payload);
            }
        }
    }

    /// Takes up what an earlier process saved, if the engine still has the batch that was
    /// the last then. Without an answer, the next connection asks again.
    async fn resume(&mut self) {
        let (worker, rank) = (&self.source.worker_name, self.source.holder.rank);
        let Some(saved) = self.streams.find(worker, rank) else { return };
        let Some(endpoint) = &self.source.replay else { return };
        let mut applier = self.applier.lock().await;
        let confirmed = match applier.last() {
            // Live batches came first, which have no place behind the saved ones.
            Some(_) => Ok(false),
            None => confirms(endpoint, &saved.entry).await,
        };
        match confirmed {
            Err(error) => {
                tracing::debug!(worker, %error, "the snapshot is not confirmed yet");
                return;
            }
            Ok(false) => {
                tracing::info!(worker, rank, "the engine is another than at the snapshot's time");
            }
            Ok(true) => {
                let (holder, index) = applier.target();
                let restored = self.streams.restore(saved.clone(), index.clone(), holder).await;
                match restored {
                    Ok(blocks) => {
                        tracing::info!(worker, rank, blocks, "taken up from the snapshot");
                        applier.resume(&saved.entry);
                    }
                    Err(error) => {
                        tracing::warn!(worker, rank, %error, "the snapshot is of no use");
                        index.clear(holder);
                    }
                }
            }
        }
        self.streams.done(worker, rank);
    }

    async fn quiet(&mut self) {
        let Some(endpoint) = &self.source.replay else {
            self.renew.notify_one();
            return;
        };
        if self.incomplete && begins_at_zero(endpoint).await {
            // The engine still has everything: better than what we pieced together.
            self.applier.lock().await.forget();
            self.incomplete = false;
        }
        if self.replay(false).await == Outcome::Complete(true) {
            // It had more to say than it published to us: the connection is dead.
            self.renew.notify_one();
        }
    }

    /// Asks for everything from the last batch on; `reconnected` if the engine may
    /// be another since that came.
    async fn replay(&mut self, reconnected: bool) -> Outcome {
        let source = self.source;
        let Some(endpoint) = &source.replay else { return Outcome::Broken(false) };
        if self.silent_until.is_some_and(|until| Instant::now() < until) {
            return Outcome::Broken(false);
        }
        self.status.update(|status| status.replays += 1);
        let mut news = false;
        for _ in 0..ROUNDS {
            match self.round(endpoint, reconnected).await {
                Outcome::Complete(more) => return Outcome::Complete(news || more),
                Outcome::Broken(true) => news = true,
                Outcome::Broken(false) => break,
            }
        }
        self.silent_until = Some(Instant::now() + COOL_DOWN);
        Outcome::Broken(news)
    }

    async fn round(&mut self, endpoint: &str, reconnected: bool) -> Outcome {
        let first = self.applier.lock().await.last();
        let mut replay = match Replay::request(endpoint, first.unwrap_or(0)).await {
            Ok(replay) => replay,
            Err(error) => return self.broken(false, &error),
        };
        let (mut any, mut news) = (false, false);
        loop {
            let (seq, payload) = match replay.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) if any || first.is_none() => return Outcome::Complete(news),
                Ok(None) if reconnected || self.answers => {
                    // Not even the last batch is there: the engine counts from 0 again.
                    self.applier.lock().await.restart();
                    return Outcome::Broken(true);
                }
                Ok(None) => return Outcome::Complete(false),
                Err(error) => return self.broken(news, &error),
            };
            self.answers = true;
            let mut applier = self.applier.lock().await;
            match applier.offer(seq, &payload) {
                Verdict::Applied => news = true,
                Verdict::Duplicate => {}
                // The engine's buffer begins later than we need.
                Verdict::Gap { .. } if !any => {
                    applier.apply_after_loss(seq, &payload);
                    news = true;
                }
                // A hole in the answer: its socket dropped some.
                Verdict::Gap { .. } => return Outcome::Broken(news),
                Verdict::Restarted => return Outcome::Broken(true),
            }
            any = true;
        }
    }

    fn broken(&self, news: bool, error: &ReplayError) -> Outcome {
        tracing::debug!(worker = self.source.worker_name, %error, "replay broke off");
        Outcome::Broken(news)
    }
}

/// Whether an engine still has the batch at which something was saved.
async fn confirms(endpoint: &str, entry: &Entry) -> Result<bool, ReplayError> {
    let batch = Replay::request(endpoint, entry.seq).await?.next().await?;
    Ok(batch.is_some_and(|(seq, payload)| {
        (seq, Mark::new(seq, None, &payload).digest) == (entry.seq, entry.digest)
    }))
}

async fn begins_at_zero(endpoint: &str) -> bool {
    match Replay::request(endpoint, 0).await {
        Ok(mut replay) => matches!(replay.next().await, Ok(Some((0, _)))),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
