/*!
KV events of `trtllm-serve` over HTTP: `POST /kv_cache_events`, again and again.

The engine keeps its events in a buffer; asking for them empties it. So there is
one reader, nothing is ever sent twice, and nothing can be asked for again: what a
lost answer took with it shows only as a gap in the event ids. The buffer holds
back what happens while nobody asks, so a pause costs nothing.

One task serves all ranks of a worker, since one buffer does: attention
data-parallel ranks are told apart by a field. [`json`] decodes, [`Drain`] turns
events into those of the other engines; both without I/O.

Events that fail are no reason to fail requests: after some failures in a row the
worker is *degraded*, said once in the log and in a gauge as long as it lasts, and
routed as one without events: by load, and by what it is predicted to hold. Some releases answer with an error until the first request was
served, and some leave the tokens out for good.
*/

mod drain;
mod json;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use warmpath_radix::{Holder, Index};

pub use drain::Drain;

use super::RankStatus;
use super::follow::survive;

/// Failures in a row that make a worker degraded: one could be a busy moment.
const FAILURES: u32 = 3;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Silence of an engine after which what it last said is too old to route by: it
/// has thrown out blocks since.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Most bytes of an answer; a full buffer of an engine with long prompts is some 100 MB.
const ANSWER_MOST: usize = 256 << 20;

/// One worker's buffer of events.
#[derive(Debug, Clone)]
pub struct PollSource {
    /// The worker's id, for logs.
    pub worker_name: String,
    /// Its ranks by number, each with the status to keep.
    pub ranks: Vec<(Holder, Arc<RankStatus>)>,
    /// Where the events are asked for: `http://host:port/kv_cache_events`.
    pub url: String,
    /// Time between two questions.
    pub every: Duration,
    /// How long an answer may take. Older releases wait two seconds for an event.
    pub timeout: Duration,
    /// The block size that the configuration declares; else it is learned.
    pub block_size: Option<u32>,
}

/// Asks for the events of `source` and writes what they say into `index`, until
/// `shutdown`; survives everything else, as [`follow`](super::follow) does.
pub async fn poll(
    source: PollSource,
    client: reqwest::Client,
    index: Arc<Index>,
    shutdown: CancellationToken,
) {
    let ranks = source.ranks.clone();
    let broke = || {
        for (holder, status) in &ranks {
            status.reject("internal");
            index.clear(*holder);
        }
    };
    let life = || live(source.clone(), client.clone(), index.clone());
    survive(&source.worker_name, life, broke, &shutdown).await;
    ranks.iter().for_each(|(_, status)| status.update(|status| status.connected = false));
}

async fn live(source: PollSource, client: reqwest::Client, index: Arc<Index>) {
    let mut drain = Drain::new(&source, index);
    let mut failures = 0_u32;
    let mut heard = Instant::now();
    loop {
        let answer = ask(&client, &source).await.and_then(|body| drain.offer(&body));
        let pause = match answer {
            Ok(()) => {
                failures = 0;
                heard = Instant::now();
                source.ranks.iter().for_each(|(_, status)| {
                    status.update(|status| (status.connected, status.synced) = (true, true));
                });
                drain.works();
                source.every
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                drain.failed(reason, failures >= FAILURES);
                if heard.elapsed() >= FORGET_AFTER {
                    drain.forget();
                    heard = Instant::now();
                }
                (source.every * failures.min(100)).min(LONGEST_PAUSE)
            }
        };
        sleep(pause).await;
    }
}

/// One answer's body; the error is the reason to count.
async fn ask(client: &reqwest::Client, source: &PollSource) -> Result<Vec<u8>, &'static str> {
    let why = |error: reqwest::Error| match error.is_connect() {
        true => "unreachable",
        false => "no_answer",
    };
    let mut answer = client.post(&source.url).timeout(source.timeout).send().await.map_err(why)?;
    if !answer.status().is_success() {
        return Err("status");
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(why)? {
        if body.len() + chunk.len() > ANSWER_MOST {
            return Err("too_long");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
