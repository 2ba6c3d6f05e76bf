/*!
The write path: what the engines say about their caches, into the index.

Each rank of each worker has one stream and one task that follows it. The path
is a line of small parts, and only its ends do I/O: `source` receives frames,
`wire` decodes them, `sequence` decides whether a batch is next, missing some,
repeated, or from an engine that began anew, `apply` turns events into local
hashes and writes the index, and `replay` asks the engine for what is missing.
[`Applier`] is the line without sockets, for recordings and tests. TensorRT-LLM's
events over HTTP come in by `poll`, and go through the same `apply`.

One rule runs through all of it: an error costs the smallest thing that contains
it. A broken event costs that event, a lost batch that batch; the stream goes on,
and a counter with a reason says what happened.
*/

mod applier;
mod apply;
mod follow;
pub(crate) mod guard;
mod poll;
mod replay;
mod saved;
mod sequence;
mod source;
mod status;
#[cfg(test)]
mod testing;
mod wire;

use warmpath_radix::Holder;

pub use applier::{Applier, Verdict};
pub use follow::follow;
pub use poll::{Drain, PollSource, poll};
pub use saved::Streams;
pub use status::{RankSnapshot, RankStatus};

/// The number of the first batch that a replay socket has and the block size that it
/// tells, if any; nothing where it has none, an error where it does not answer.
pub(crate) async fn first_batch(endpoint: &str) -> Result<Option<(u64, Option<u32>)>, ()> {
    let mut replay = replay::Replay::request(endpoint, 0).await.map_err(drop)?;
    let Some((number, payload)) = replay.next().await.map_err(drop)? else { return Ok(None) };
    let batch = wire::Batch::decode(&payload).ok();
    let size = batch.and_then(|batch| {
        batch.events().flatten().find_map(|event| match event {
            wire::Event::Stored(stored) if !stored.hashes.is_empty() => Some(stored.block_size),
            _ => None,
        })
    });
    Ok(Some((number, size)))
}

/// One event stream: where it is and whose blocks it names.
#[derive(Debug, Clone)]
pub struct Source {
    /// The worker's id, for logs.
    pub worker_name: String,
    /// The worker and the rank that this stream was configured for.
    pub holder: Holder,
    /// How many ranks the worker has. With one, the batches' own rank is not
    /// looked at: behind an external load balancer each rank is a worker here.
    pub ranks: u32,
    /// Where the events come from, this rank's port included: `tcp://host:port`.
    pub endpoint: String,
    /// Where missed batches can be asked for, this rank's port included.
    pub replay: Option<String>,
    /// Bind `endpoint` instead of connecting: for engines told to connect.
    pub bind: bool,
    /// Only messages whose topic begins so; empty for all.
    pub topic: String,
    /// The block size that the configuration declares; events of another are
    /// rejected. Without one, the first event teaches it.
    pub block_size: Option<u32>,
}
