/*!
What streams have told, kept in a file over a restart of the indexer.

Engines replay what their buffers still hold, so a restarted indexer soon knows of the
newest blocks and never learns of the older ones, which engines hold just as well. The
file has them: for each stream the blocks of its holder as of one batch, with that batch's
number and digest.

What was saved is believed only when the engine says so: the follower asks for the saved
batch by its number, and takes up the blocks if it comes back with the same digest. Then
everything since is replayed, and nothing is missing. An engine that has begun anew answers
with other bytes or none, one whose buffer begins later may have dropped anything
meanwhile; what was saved of both is discarded and they are followed as if there had been
no file. Until the engine has answered, nobody is credited with anything. So a stream
without a replay socket gains nothing by a snapshot, and none is kept of it.

A holder and its batch are taken down together: its stream's batches wait meanwhile, and
nobody else's. Rejected: one snapshot of the whole index (its moments and the streams'
would differ, and a batch applied twice counts copies that no engine will remove), and a
log of events (it grows faster than what it says).
*/

mod file;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use warmpath_radix::{Holder, Index};

pub(super) use file::{Entry, Saved};

use super::{Applier, RankStatus};

/// How often it is looked whether enough batches have come.
const LOOK: Duration = Duration::from_secs(1);
/// Writing takes one part in so many of the time, whatever the threshold.
const REST: u32 = 10;
/// How long the last snapshot may take, at shutdown.
const LAST: Duration = Duration::from_secs(20);

/// An applier that snapshots read between two batches.
pub(super) type Shared = tokio::sync::Mutex<Applier>;

struct Stream {
    worker: String,
    rank: u32,
    status: Arc<RankStatus>,
    applier: Weak<Shared>,
}

/// The streams that are followed, and what was saved of them.
#[derive(Default)]
pub struct Streams {
    followed: Mutex<Vec<Stream>>,
    /// From the file, until the engines have answered.
    saved: Mutex<Vec<Arc<Saved>>>,
    restored: AtomicU64,
}

impl Streams {
    /// Reads what an earlier process saved; for streams that are followed from now on.
    ///
    /// A file that is not there is none, and one that can not be read is a warning.
    pub fn read(&self, path: &Path) {
        match file::read(path) {
            Ok(saved) => {
                if !saved.is_empty() {
                    let (path, streams) = (path.display(), saved.len());
                    tracing::info!(%path, streams, "a snapshot waits for the engines to confirm it");
                }
                *self.saved.lock() = saved.into_iter().map(Arc::new).collect();
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the snapshot of the index is not used");
            }
        }
    }

    /// Blocks that were taken up again, since the start.
    pub fn restored_blocks(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// Writes a snapshot whenever so many batches were applied since the last one, until
    /// `shutdown`.
    pub async fn keep(&self, path: PathBuf, threshold: u64, shutdown: CancellationToken) {
        let mut written = self.batches();
        let mut pause = LOOK;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            pause = LOOK;
            let now = self.batches();
            // Removed workers take theirs along.
            if now.abs_diff(written) >= threshold {
                let begun = Instant::now();
                self.write(&path).await;
                written = now;
                pause = LOOK.max(begun.elapsed() * REST);
            }
        }
    }

    /// Writes the last snapshot of a process.
    pub async fn finish(&self, path: &Path) {
        if tokio::time::timeout(LAST, self.write(path)).await.is_err() {
            tracing::warn!(path = %path.display(), "no time for the last snapshot of the index");
        }
    }

    async fn write(&self, path: &Path) {
        match self.write_all(path).await {
            Ok(streams) => {
                tracing::info!(path = %path.display(), streams, "snapshot of the index written");
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the snapshot of the index can not be written");
            }
        }
    }

    /// How many streams there are in it.
    async fn write_all(&self, path: &Path) -> std::io::Result<usize> {
        let mut file = file::Writer::create(path)?;
        let mut streams = 0;
        for (worker, rank, applier) in self.followed() {
            let applier = applier.lock().await;
            if let Some((entry, holder, index)) = applier.saved_as(&worker, rank) {
                // Its stream waits, the threads that serve requests do not.
                file = on_a_thread(move || file.add(&entry, &index, holder)).await?;
                streams += 1;
                continue;
            }
            drop(applier);
            if let Some(saved) = self.find(&worker, rank) {
                file = on_a_thread(move || file.copy(&saved)).await?;
                streams += 1;
            }
        }
        on_a_thread(move || file.finish()).await?;
        Ok(streams)
    }

    /// Batches that the streams applied.
    fn batches(&self) -> u64 {
        self.followed.lock().iter().map(|stream| stream.status.batches()).sum()
    }

    fn followed(&self) -> Vec<(String, u32, Arc<Shared>)> {
        let mut followed = self.followed.lock();
        followed.retain(|stream| stream.applier.strong_count() > 0);
        followed
            .iter()
            .filter_map(|one| Some((one.worker.clone(), one.rank, one.applier.upgrade()?)))
            .collect()
    }

    /// Counts a stream among those that are saved, as long as its applier lives.
    pub(super) fn follow(
        &self,
        worker: &str,
        rank: u32,
        status: &Arc<RankStatus>,
        applier: &Arc<Shared>,
    ) {
        let stream = Stream {
            worker: worker.to_owned(),
            rank,
            status: Arc::clone(status),
            applier: Arc::downgrade(applier),
        };
        self.followed.lock().push(stream);
    }

    /// What was saved of a stream.
    pub(super) fn find(&self, worker: &str, rank: u32) -> Option<Arc<Saved>> {
        let saved = self.saved.lock();
        saved.iter().find(|saved| saved.is_of(worker, rank)).cloned()
    }

    /// Forgets what was saved of a stream: it was taken up or is void.
    pub(super) fn done(&self, worker: &str, rank: u32) {
        self.saved.lock().retain(|saved| !saved.is_of(worker, rank));
    }

    /// Takes up what was saved, for a holder that has nothing yet; how many blocks.
    pub(super) async fn restore(
        &self,
        saved: Arc<Saved>,
        index: Arc<Index>,
        holder: Holder,
    ) -> std::io::Result<usize> {
        let blocks = on_a_thread(move || saved.restore(&index, holder)).await?;
        self.restored.fetch_add(blocks as u64, Ordering::Relaxed);
        Ok(blocks)
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests;
