//! Workers whose events are not followed, and prompts whose events have not come yet.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use warmpath_testbed::stack::{Stack, StackOptions};

use crate::support::{chat, eventually, routed, tally};

/// Nothing is known of what the engines hold but what was routed to them; the block size
/// is on their metrics page.
fn without_events() -> StackOptions {
    let mut options = StackOptions::default();
    options.gateway.indexer.is_following = false;
    options
}

/// Waits until the indexer knows every worker's block size.
async fn until_sized(stack: &Stack) -> Result<Value> {
    let mut list = Value::Null;
    eventually("the workers' block size", async || {
        list = stack.gateway.indexer.get("/v1/workers").await?;
        let workers = list["workers"].as_array().cloned().unwrap_or_default();
        Ok(workers.iter().all(|worker| worker["ranks"][0]["block_size"] == 16))
    })
    .await?;
    Ok(list)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_events_a_prompt_returns_to_where_it_was_sent() -> Result<()> {
    let stack = Stack::start(without_events()).await?;
    let list = until_sized(&stack).await?;
    assert_eq!(list["workers"][0]["ranks"][0]["total_kv_blocks"], 8191, "{list}");
    let client = stack.gateway.client();
    eventually("a predicted overlap", async || {
        let reply = client.chat(&chat("the first of all")).await?;
        Ok(routed(&reply).1 == "prefix")
    })
    .await?;
    let mut workers = Vec::new();
    for topic in ["rivers", "bridges", "islands", "mountains", "harbours", "deserts"] {
        let worker = routed(&client.chat(&chat(topic)).await?).0.to_owned();
        let again = client.chat(&chat(topic)).await?;
        assert_eq!(routed(&again), (worker.as_str(), "prefix"), "{topic} moved");
        let usage = again.usage.expect("usage");
        assert!(usage.cached_tokens.unwrap_or_default() > usage.prompt_tokens / 2, "{usage:?}");
        let id = again.header("x-request-id").expect("a request id");
        let decision = stack.gateway.indexer.decision(id).await?["decision"].clone();
        assert_eq!(decision["predicted_blocks"], decision["overlap_blocks"], "{decision}");
        workers.push(worker);
    }
    assert!(tally(&workers).len() > 1, "all went to one worker: {workers:?}");
    Ok(())
}

/// Sixteen requests at once for one long prompt that nobody has seen.
async fn burst(mut options: StackOptions) -> Result<()> {
    options.sim.prefill_tokens_per_second = 10_000.0;
    options.gateway.indexer.block_size = Some(16);
    let stack = Stack::start(options).await?;
    until_sized(&stack).await?;
    let text = "Tell me about the sea, in detail and in order, from the beginning. ".repeat(400);
    let body = json!({"model": "tiny", "prompt": text, "max_tokens": 1});
    let client = stack.gateway.client();
    let replies = try_join_all((0..16).map(|_| client.completion(&body))).await?;
    let workers = tally(replies.iter().map(|reply| routed(reply).0.to_owned()));
    assert_eq!(workers.len(), 1, "{workers:?}");
    // The first is computed, the others wait for it.
    let cached = replies.iter().filter_map(|reply| reply.usage?.cached_tokens);
    assert_eq!(cached.filter(|cached| *cached > 0).count(), 15);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_equal_prompts_lands_together_before_their_events_come() -> Result<()> {
    burst(StackOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_equal_prompts_lands_together_without_events() -> Result<()> {
    burst(without_events()).await
}
