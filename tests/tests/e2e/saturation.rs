//! What becomes of requests while all workers are busy.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use warmpath_testbed::Client;
use warmpath_testbed::client::Reply;
use warmpath_testbed::stack::{Stack, StackOptions};

use crate::support::{chat, eventually, requests_counted, routed};

/// One worker, busy with more than 200 tokens to prefill, of which it does so many a second.
async fn stack(rate: f64, mut saturation: Value) -> Result<Stack> {
    let mut options = StackOptions::default();
    options.sim.num_workers = 1;
    options.sim.prefill_tokens_per_second = rate;
    saturation["active_prefill_tokens_threshold"] = json!(200);
    options.gateway.indexer.settings = json!({ "saturation": saturation });
    // A hold outlasts the filter's own deadline.
    options.gateway = options.gateway.filter("deadline_ms", 500);
    Stack::start(options).await
}

/// Sends a prompt of some thousand tokens; the worker is busy with it when this returns.
async fn fill(stack: &Stack) -> Result<JoinHandle<Result<Reply>>> {
    let client = stack.gateway.client();
    let text = "Tell me about the sea, in detail and in order, from the beginning. ".repeat(150);
    let body = json!({"model": "tiny", "prompt": text, "max_tokens": 1});
    let first = tokio::spawn(async move { client.completion(&body).await });
    eventually("the worker is busy", async || {
        let list = stack.gateway.indexer.get("/v1/workers").await?;
        let tokens = &list["workers"][0]["ranks"][0]["in_flight"]["prefill_tokens"];
        Ok(tokens.as_f64() > Some(200.0))
    })
    .await?;
    Ok(first)
}

async fn metric(stack: &Stack, line: &str) -> Result<f64> {
    let admin = Client::new(&format!("http://{}", stack.gateway.indexer.admin));
    let page = admin.get("/metrics", &[]).await?.text;
    let value = page.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0.0))
}

async fn until_held(stack: &Stack, requests: f64) -> Result<()> {
    eventually("as many requests are held", async || {
        Ok(metric(stack, "warmpath_held_requests").await? == requests)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_operator_wants_it_the_client_hears_when_to_come_again() -> Result<()> {
    let stack = stack(1000.0, json!({"refuse": true, "retry_after_s": 3})).await?;
    let first = fill(&stack).await?;
    let client = stack.gateway.client();
    let reply = client.chat(&chat("patience")).await?;
    assert_eq!((reply.status, routed(&reply).1), (503, "saturated"), "{}", reply.text);
    assert_eq!(reply.header("retry-after"), Some("3"));
    let body: Value = serde_json::from_str(&reply.text)?;
    assert_eq!(body["error"]["code"], "saturated");
    eventually("it is counted", async || {
        Ok(requests_counted(&stack.gateway, &["reason=\"saturated\""]).await? == 1.0)
    })
    .await?;
    assert_eq!(first.await??.status, 200);
    eventually("the worker is free", async || {
        Ok(client.chat(&chat("patience")).await?.status == 200)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_goes_on_as_soon_as_a_worker_is_free() -> Result<()> {
    let stack = stack(1000.0, json!({"hold_ms": 60_000})).await?;
    let first = fill(&stack).await?;
    let client = stack.gateway.client();
    let second = tokio::spawn(async move { client.chat(&chat("patience")).await });
    until_held(&stack, 1.0).await?;
    assert_eq!(first.await??.status, 200);
    let second = second.await??;
    assert_eq!(second.status, 200, "{}", second.text);
    assert!(!routed(&second).1.starts_with("fallback"), "{:?}", routed(&second));
    assert_eq!(metric(&stack, "warmpath_holds_total{ending=\"free\"}").await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_ends_without_a_free_worker_routes_all_the_same() -> Result<()> {
    let stack = stack(500.0, json!({"hold_ms": 700})).await?;
    let first = fill(&stack).await?;
    let reply = stack.gateway.client().chat(&chat("patience")).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(!routed(&reply).1.starts_with("fallback"), "{:?}", routed(&reply));
    assert_eq!(metric(&stack, "warmpath_holds_total{ending=\"late\"}").await?, 1.0);
    assert_eq!(first.await??.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_is_held_frees_its_place() -> Result<()> {
    let stack = stack(100.0, json!({"hold_ms": 60_000})).await?;
    let first = fill(&stack).await?;
    let client = stack.gateway.client();
    let second = tokio::spawn(async move { client.chat(&chat("patience")).await });
    until_held(&stack, 1.0).await?;
    second.abort();
    until_held(&stack, 0.0).await?;
    eventually("the filter knows that the client left", async || {
        Ok(requests_counted(&stack.gateway, &["reason=\"client_gone\""]).await? == 1.0)
    })
    .await?;
    eventually("the first alone is in flight", async || {
        let list = stack.gateway.indexer.get("/v1/workers").await?;
        Ok(list["workers"][0]["ranks"][0]["in_flight"]["requests"] == 1.0)
    })
    .await?;
    first.abort();
    Ok(())
}
