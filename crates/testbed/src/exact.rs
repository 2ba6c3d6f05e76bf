//! The check that everything stands on: what the filter hashed in Envoy is what
//! the engine computes, and what the index predicts is what the cache has.
//!
//! For each request, sent alone: the count and digest of the tokens hashed in
//! Envoy and the last sequence hash against the engine's own `/tokenize`; then
//! the overlap of the decision, as tokens, against the cached tokens in the
//! engine's usage. Before the next request the index is given time to hear of
//! this one's blocks, since a prediction can not be better than the events.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::corpus::Case;
use crate::indexer::Engine;
use crate::stack::Gateway;
use crate::{Client, Indexer};

/// How many requests passed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exactness {
    /// Requests sent.
    pub requests: usize,
    /// Those whose tokens were the engine's.
    pub tokens_exact: usize,
    /// Those whose cached tokens were predicted.
    pub cached_exact: usize,
    /// Those that failed, or could not be compared.
    pub errors: usize,
    /// What went wrong, one line a request.
    pub complaints: Vec<String>,
    /// Cached tokens that the engines reported, all requests together.
    pub cached_tokens: u64,
    /// Prompt tokens, all requests together.
    pub prompt_tokens: u64,
}

impl Exactness {
    /// Whether every request passed everything.
    pub fn is_complete(&self) -> bool {
        self.errors == 0 && self.tokens_exact == self.requests && self.cached_exact == self.requests
    }
}

/// Sends the cases one by one; every fourth is pinned to a worker in turn, so
/// that all are used, the others go where the policy sends them.
pub async fn check(
    gateway: &Gateway,
    engines: &[Engine],
    cases: &[Case],
    progress: impl Fn(usize),
) -> Exactness {
    let mut total = Exactness::default();
    let client = gateway.client();
    for (index, case) in cases.iter().enumerate() {
        let pin = (index % 4 == 3).then_some((index / 4) % engines.len().max(1));
        let outcome = check_one(gateway, &client, engines, case, pin).await;
        total.requests += 1;
        match outcome {
            Ok(one) => {
                total.tokens_exact += usize::from(one.tokens.is_none());
                total.cached_exact += usize::from(one.cached.is_none());
                total.cached_tokens += one.cached_tokens;
                total.prompt_tokens += one.prompt_tokens;
                let complaints = one.tokens.into_iter().chain(one.cached);
                total.complaints.extend(complaints.map(|text| format!("{}: {text}", case.name)));
            }
            Err(error) => {
                total.errors += 1;
                total.complaints.push(format!("{}: {error:#}", case.name));
            }
        }
        progress(index + 1);
    }
    total
}

struct One {
    /// Why the tokens differ, if they do.
    tokens: Option<String>,
    /// Why the prediction was wrong, if it was.
    cached: Option<String>,
    cached_tokens: u64,
    prompt_tokens: u64,
}

async fn check_one(
    gateway: &Gateway,
    client: &Client,
    engines: &[Engine],
    case: &Case,
    pin: Option<usize>,
) -> Result<One> {
    let pin = pin.map(|worker| worker.to_string());
    let mut headers = vec![("x-warmpath-explain", "1")];
    headers.extend(pin.as_deref().map(|pin| ("x-warmpath-worker", pin)));
    let reply = client.send(case.path, &case.body, &headers).await?;
    ensure!(reply.status == 200, "status {}: {}", reply.status, reply.text);
    let reason = reply.header("x-warmpath-reason").unwrap_or("none");
    ensure!(!reason.starts_with("fallback"), "not decided: {reason}");
    let id = reply.header("x-request-id").context("the answer has no x-request-id")?;
    let record = gateway.indexer.decision(id).await.context("no decision is recorded")?;
    let decision = &record["decision"];
    let worker = decision["worker"].as_str().context("the decision names no worker")?;
    ensure!(pin.as_deref().is_none_or(|pin| pin == worker), "pinned {pin:?}, went to {worker}");
    let engine = worker.parse::<usize>().ok().and_then(|index| engines.get(index));
    let engine = engine.with_context(|| format!("no engine {worker}"))?;

    let truth = engine_tokens(engine.http, case).await?;
    let block = decision["block_size"].as_u64().unwrap_or_default();
    ensure!(block > 0, "the decision has no block size");
    let tokens = compare_tokens(&record, &truth, block, case);

    let usage = reply.usage.context("the answer has no usage")?;
    let cached = usage.cached_tokens.unwrap_or_default();
    let overlap = decision["overlap_blocks"].as_u64().unwrap_or_default();
    // At least one token is always computed, so a prompt of whole blocks never
    // hits its last one.
    let predicted = (overlap * block).min((truth.len() as u64).saturating_sub(1) / block * block);
    let wrong = (cached != predicted || usage.prompt_tokens != truth.len() as u64).then(|| {
        format!(
            "worker {worker} had {cached} of {} tokens cached, predicted {predicted} of {}",
            usage.prompt_tokens,
            truth.len()
        )
    });
    wait_indexed(&gateway.indexer, case, worker, &truth, block).await?;
    Ok(One { tokens, cached: wrong, cached_tokens: cached, prompt_tokens: usage.prompt_tokens })
}

/// What the engine makes of the prompt.
async fn engine_tokens(engine: SocketAddr, case: &Case) -> Result<Vec<u32>> {
    let prompt = &case.body["prompt"];
    let prompt = match prompt.as_array() {
        Some(list) if list.first().is_some_and(|first| !first.is_number()) => &list[0],
        _ => prompt,
    };
    if prompt.is_array() {
        return serde_json::from_value(prompt.clone()).context("ids are not a list of numbers");
    }
    let mut question = json!({});
    for field in [
        "model",
        "messages",
        "tools",
        "add_generation_prompt",
        "continue_final_message",
        "add_special_tokens",
        "chat_template_kwargs",
    ] {
        if let Some(value) = case.body.get(field) {
            question[field] = value.clone();
        }
    }
    if prompt.is_string() {
        question["prompt"] = prompt.clone();
    }
    let reply = Client::new(&format!("http://{engine}")).send("/tokenize", &question, &[]).await?;
    ensure!(reply.status == 200, "/tokenize answered {}: {}", reply.status, reply.text);
    let answer: Value = serde_json::from_str(&reply.text)?;
    serde_json::from_value(answer["tokens"].clone()).context("/tokenize answered no tokens")
}

fn compare_tokens(record: &Value, truth: &[u32], block: u64, case: &Case) -> Option<String> {
    let salt = case.body["cache_salt"].as_str();
    let block = usize::try_from(block).ok()?;
    let seed = warmpath_blocks::seed(None, salt);
    let sequence =
        warmpath_blocks::sequence_hashes(&warmpath_blocks::local_hashes(truth, block, seed));
    let expected = json!({
        "tokens": truth.len(),
        "token_digest": warmpath_blocks::token_digest(truth),
        "last_sequence_hash": sequence.last(),
    });
    let hashed = json!({
        "tokens": record["tokens"],
        "token_digest": record["token_digest"],
        "last_sequence_hash": record["last_sequence_hash"],
    });
    (hashed != expected).then(|| format!("hashed {hashed}, the engine has {expected}"))
}

/// Waits until the index knows the whole prompt's blocks at the worker.
async fn wait_indexed(
    indexer: &Indexer,
    case: &Case,
    worker: &str,
    tokens: &[u32],
    block: u64,
) -> Result<()> {
    let blocks = tokens.len() as u64 / block;
    let question = json!({
        "model": case.body["model"], "cache_salt": case.body["cache_salt"], "token_ids": tokens,
    });
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = indexer.post("/v1/overlap", &question).await?;
        let held = answer["holders"].as_array().and_then(|holders| {
            holders.iter().find(|holder| holder["worker"] == worker)?["blocks"].as_u64()
        });
        if held.unwrap_or_default() >= blocks {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the index has {held:?} of {blocks} blocks at {worker}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
