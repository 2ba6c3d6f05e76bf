/*!
`warmpath-indexer doctor`: whether the workers can be followed as they are configured.

Each thing that the serving indexer waits for in silence, asked for once, with a
remedy for what is missing. It changes nothing: an engine that would hand out its
events only once is not asked for them. Reading the running indexer's metrics was
rejected: a doctor is called before there is one, too.
*/

use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use zeromq::{Socket, SocketRecv, SubSocket};

use crate::config::{Config, EventsConfig, WorkerConfig};
use crate::events::{self, guard::Guard};
use crate::fleet::rank_endpoint;
use crate::load;

/// How long anything may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The worker's id.
    pub worker: String,
    /// What was looked at: `health`, `events`, `replay`, `load`.
    pub what: &'static str,
    /// What was found; the error names a remedy.
    pub found: Result<String, String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, text) = match &self.found {
            Ok(text) => ("ok   ", text),
            Err(text) => ("WRONG", text),
        };
        write!(formatter, "{verdict} worker {} {}: {text}", self.worker, self.what)
    }
}

/// Looks at every worker of a configuration, in its order.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let client =
        reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap_or_default();
    let sizes = |worker: &WorkerConfig| {
        let model = config.models.iter().find(|model| model.name == worker.model);
        model.and_then(|model| model.block_size)
    };
    let workers = config.workers.iter().map(|worker| look_at(worker, sizes(worker), &client));
    join_all(workers).await.into_iter().flatten().collect()
}

async fn look_at(
    worker: &WorkerConfig,
    block_size: Option<u32>,
    client: &reqwest::Client,
) -> Vec<Finding> {
    let finding = |what, found| Finding { worker: worker.id.clone(), what, found };
    let mut findings = vec![finding("health", health(worker, client).await)];
    match &worker.events {
        None => {
            let text = "none configured; what is routed there counts as held for a while";
            findings.push(finding("events", Ok(text.to_owned())));
        }
        Some(config) if config.is_polled() => {
            findings.push(finding("events", polled(&config.endpoint, client).await));
        }
        Some(config) => {
            for rank in 0..worker.ranks.max(1) {
                findings.push(finding("events", published(config, rank).await));
                if let Some(replay) = &config.replay {
                    findings.push(finding("replay", replayed(replay, rank, block_size).await));
                }
            }
        }
    }
    if let Some(url) = &worker.load.prometheus {
        findings.push(finding("load", page(url, client).await));
    }
    if let Some(endpoint) = &worker.load.zmq {
        findings.push(finding("load", frame(endpoint).await));
    }
    findings
}

async fn health(worker: &WorkerConfig, client: &reqwest::Client) -> Result<String, String> {
    let url = format!("http://{}{}", worker.endpoint, worker.health.path);
    match client.get(&url).send().await {
        Ok(answer) if answer.status().is_success() => Ok(format!("answers at {url}")),
        Ok(answer) => Err(format!("{} at {url}: see health.path", answer.status())),
        Err(_) => Err(format!("no answer at {url}: is the engine running there?")),
    }
}

/// A question would empty the engine's buffer; that there is the path shows as well.
async fn polled(url: &str, client: &reqwest::Client) -> Result<String, String> {
    match client.get(url).send().await {
        Ok(answer) if answer.status() == reqwest::StatusCode::METHOD_NOT_ALLOWED => {
            Ok(format!("there is {url}; not asked, since it tells them once"))
        }
        Ok(answer) => Err(format!("{} at {url}: is it trtllm-serve?", answer.status())),
        Err(_) => Err(format!("no answer at {url}")),
    }
}

async fn published(config: &EventsConfig, rank: u32) -> Result<String, String> {
    if config.bind {
        return Ok("the engine connects to the indexer; nothing to look at".to_owned());
    }
    let endpoint = rank_endpoint(&config.endpoint, rank).unwrap_or_default();
    let connected = timeout(PATIENCE, subscribe(&endpoint, &config.topic)).await;
    match connected {
        Ok(Some(_)) => Ok(format!("published at {endpoint}")),
        _ => Err(format!(
            "nobody publishes at {endpoint}: start the engine with KV events there, on an endpoint \
             with * in it (docs/configuration.md)"
        )),
    }
}

async fn subscribe(endpoint: &str, topic: &str) -> Option<(SubSocket, Guard)> {
    let guard = Guard::connect(endpoint, PATIENCE).await.ok()?;
    let mut socket = SubSocket::new();
    socket.subscribe(topic).await.ok()?;
    socket.connect(&guard.endpoint).await.ok()?;
    Some((socket, guard))
}

async fn replayed(endpoint: &str, rank: u32, declared: Option<u32>) -> Result<String, String> {
    let endpoint = rank_endpoint(endpoint, rank).unwrap_or_default();
    match (events::first_batch(&endpoint).await, declared) {
        (Err(()), _) => Err(format!(
            "no answer at {endpoint}: give the engine a replay endpoint, else what is lost stays lost"
        )),
        (Ok(None), _) => Ok(format!("answers at {endpoint}; nothing has happened yet")),
        (Ok(Some((_, Some(size)))), Some(declared)) if size != declared => Err(format!(
            "blocks of {size} tokens, and the model's block_size is {declared}: all are rejected"
        )),
        (Ok(Some((first, size))), _) => {
            let size = size.map_or_else(String::new, |size| format!(", blocks of {size} tokens"));
            Ok(format!("batches from {first} on{size}"))
        }
    }
}

async fn page(url: &str, client: &reqwest::Client) -> Result<String, String> {
    let reports = load::page::look(client, url, PATIENCE)
        .await
        .map_err(|reason| format!("{reason} at {url}: does the engine have metrics turned on?"))?;
    if reports.is_empty() {
        return Ok("no iterations since they were last asked for".to_owned());
    }
    let rank = |(rank, report): (&u32, &load::Report)| {
        let running = report.running.map_or_else(String::new, |n| format!(", {n} running"));
        format!(
            "rank {rank}: {} waiting{running}, cache {:.0} %",
            report.waiting,
            100.0 * report.kv_usage
        )
    };
    Ok(reports.iter().map(rank).collect::<Vec<_>>().join("; "))
}

async fn frame(endpoint: &str) -> Result<String, String> {
    let first = async {
        let (mut socket, _guard) = subscribe(endpoint, "").await?;
        socket.recv().await.ok()
    };
    match timeout(PATIENCE, first).await {
        Ok(Some(_)) => Ok(format!("frames come from {endpoint}")),
        _ => Err(format!("no frame within {} s from {endpoint}", PATIENCE.as_secs())),
    }
}
