//! Answers, as the indexer hears of them.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmpath_testbed::Client;
use warmpath_testbed::measure::prometheus;
use warmpath_testbed::stack::{Stack, StackOptions};

use crate::support::{chat, eventually, until_held};

/// A counter of the indexer's.
async fn counted(stack: &Stack, name: &str) -> Result<f64> {
    let page = Client::new(&format!("http://{}", stack.gateway.indexer.admin));
    let text = page.get("/metrics", &[]).await?.text;
    Ok(prometheus(&text).filter(|(known, _)| *known == name).map(|(_, value)| value).sum())
}

const REPORTS: &str = "warmpath_lifecycle_reports_total";

#[tokio::test(flavor = "multi_thread")]
async fn the_indexer_is_told_of_first_tokens_ends_and_what_was_cached() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let client = stack.gateway.client();
    let mut body = chat("answers");
    until_held(&client, &body, "0").await?;
    let before = counted(&stack, REPORTS).await?;
    for stream in [false, true] {
        body["stream"] = json!(stream);
        if stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        assert_eq!(client.chat(&body).await?.status, 200);
    }
    eventually("two ends and a first token", async || {
        Ok(counted(&stack, REPORTS).await? >= before + 3.0)
    })
    .await?;
    let cached = counted(&stack, "warmpath_book_cached_tokens_total").await?;
    assert!(cached > 0.0, "no engine said what it had cached");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_booking() -> Result<()> {
    let mut options = StackOptions::default();
    options.sim.decode_ms_per_token = 50.0;
    let stack = Stack::start(options).await?;
    let mut body = chat("leaving");
    (body["stream"], body["max_tokens"]) = (json!(true), json!(500));
    let body = body.to_string();
    let mut client = TcpStream::connect(stack.gateway.envoy.http).await?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.windows(5).any(|window| window == b"data:") {
        let mut piece = [0; 4096];
        let size = client.read(&mut piece).await?;
        assert!(size > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..size]);
    }
    eventually("tokens in the book", async || Ok(in_flight(&stack).await?.1 > 0.0)).await?;
    drop(client);
    // It had twenty-five seconds of tokens to go, and nobody else reports an end.
    eventually("an empty book", async || Ok(in_flight(&stack).await?.0 == 0.0)).await?;
    assert_eq!(counted(&stack, "warmpath_book_lost_total").await?, 0.0);
    Ok(())
}

/// Requests and their tokens in the book.
async fn in_flight(stack: &Stack) -> Result<(f64, f64)> {
    let workers = stack.gateway.indexer.get("/v1/workers").await?;
    let ranks = workers["workers"].as_array().into_iter().flatten().flat_map(|worker| {
        worker["ranks"].as_array().into_iter().flatten().map(|rank| &rank["in_flight"])
    });
    let count = |rank: &Value, name: &str| rank[name].as_f64().unwrap_or(0.0);
    Ok(ranks.fold((0.0, 0.0), |(requests, tokens), rank| {
        (requests + count(rank, "requests"), tokens + count(rank, "output_tokens"))
    }))
}
