//! Where requests go, and what is said about it.

use anyhow::Result;
use serde_json::json;
use warmpath_testbed::envoy::Config;
use warmpath_testbed::stack::{Destination, Stack, StackOptions};

use crate::support::{
    Captured, chat, eventually, gateway, requests_counted, routed, tally, until_held,
};

/// Sends prompts, then each again: the second goes to the holder of the first.
async fn follows_prefixes(options: StackOptions) -> Result<()> {
    let stack = Stack::start(options).await?;
    let client = stack.gateway.client();
    let mut workers = Vec::new();
    for topic in ["rivers", "bridges", "islands", "mountains", "harbours", "deserts"] {
        let first = client.chat(&chat(topic)).await?;
        assert_eq!(first.status, 200, "{}", first.text);
        let worker = routed(&first).0.to_owned();
        until_held(&client, &chat(topic), &worker).await?;
        let again = client.chat(&chat(topic)).await?;
        assert_eq!(routed(&again).1, "prefix");
        assert_eq!(routed(&again).0, worker, "{topic} moved");
        let usage = again.usage.expect("usage");
        assert!(usage.cached_tokens.unwrap_or_default() > usage.prompt_tokens / 2, "{usage:?}");
        workers.push(worker);
    }
    assert!(tally(&workers).len() > 1, "all went to one worker: {workers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_returns_to_the_worker_that_holds_its_prefix() -> Result<()> {
    follows_prefixes(StackOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_returns_through_a_cluster_of_its_worker() -> Result<()> {
    let mut options = StackOptions::default();
    options.gateway.destination = Destination::ClusterHeader;
    options.gateway.indexer_tcp = true;
    follows_prefixes(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_overrides_the_policy_and_a_pin_on_nobody_falls_back() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let client = stack.gateway.client();
    for worker in ["1", "0", "1"] {
        let headers = [("x-warmpath-worker", worker)];
        let reply = client.send("/v1/chat/completions", &chat("pins"), &headers).await?;
        assert_eq!(routed(&reply), (worker, "pinned"));
    }
    let headers = [("x-warmpath-worker", "nobody")];
    let reply = client.send("/v1/chat/completions", &chat("pins"), &headers).await?;
    assert_eq!((reply.status, routed(&reply).1), (200, "fallback-pin_unavailable"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explained_request_reports_every_workers_score() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let client = stack.gateway.client();
    let headers = [("x-warmpath-explain", "1")];
    let reply = client.send("/v1/chat/completions", &chat("scores"), &headers).await?;
    let scores = reply.header("x-warmpath-scores").expect("scores");
    for worker in ["0", "1"] {
        assert!(scores.contains(worker), "{scores}");
    }
    let overlap = reply.header("x-warmpath-overlap").expect("an overlap");
    assert!(overlap.split_once('/').is_some_and(|(_, total)| total != "0"), "{overlap}");

    let id = reply.header("x-request-id").expect("a request id");
    let record = stack.gateway.indexer.decision(id).await?;
    assert_eq!(record["decision"]["worker"], routed(&reply).0);
    assert_eq!(record["scores"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_where_and_why() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let before = stack.gateway.envoy.access_log().len();
    let reply = stack.gateway.client().chat(&chat("logs")).await?;
    let id = reply.header("x-request-id").expect("a request id");
    let mut lines = stack.gateway.envoy.wait_access_log(before + 1).await?;
    eventually("the request's line", async || {
        lines = stack.gateway.envoy.access_log();
        Ok(lines.iter().any(|line| line["request_id"] == id))
    })
    .await?;
    let line = lines.iter().find(|line| line["request_id"] == id).expect("a line");
    let (worker, reason) = routed(&reply);
    assert_eq!((&line["worker"], &line["reason"]), (&json!(worker), &json!(reason)));
    assert_eq!(line["overlap"], reply.header("x-warmpath-overlap").expect("an overlap"));
    let micros = line["decision_us"].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(micros.is_some(), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reported_unless_it_is_turned_on() -> Result<()> {
    let mut options = StackOptions::default();
    options.gateway = options.gateway.filter("report", false);
    let stack = Stack::start_edited(options, |_| Ok(())).await?;
    let client = stack.gateway.client();
    eventually("a decision in the access log", async || {
        let reply = client.chat(&chat("silence")).await?;
        let ours = |name: &str| name.starts_with("x-warmpath");
        assert!(!reply.headers.keys().any(|name| ours(name.as_str())), "{:?}", reply.headers);
        let decided = |line: &serde_json::Value| line["worker"].is_string();
        Ok(stack.gateway.envoy.access_log().iter().any(decided))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_balanced_by_envoy_and_counted() -> Result<()> {
    let captured = Captured::start(2, gateway()).await?;
    let mut body = chat("nothing");
    body["model"] = json!("no-such-model");
    let reply = captured.gateway.client().chat(&body).await?;
    assert_eq!((reply.status, routed(&reply).1), (200, "fallback-unknown_model"));
    let counted = requests_counted(&captured.gateway, &["reason=\"fallback-unknown_model\""]);
    assert!(counted.await? >= 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_follow_prefixes_to_a_data_parallel_rank() -> Result<()> {
    let mut options = StackOptions::default();
    options.sim.num_workers = 1;
    options.sim.ranks = 2;
    let stack = Stack::start(options).await?;
    let client = stack.gateway.client();
    let body = chat("ranks");
    until_held(&client, &body, "0:1").await?;
    let reply = client.chat(&body).await?;
    assert_eq!((reply.status, routed(&reply).1), (200, "prefix"), "{}", reply.text);
    let id = reply.header("x-request-id").expect("a request id");
    let record = stack.gateway.indexer.decision(id).await?;
    assert_eq!(record["decision"]["rank"], 1, "{record}");
    // The engine found it in that rank's cache: it was told the rank.
    assert!(reply.usage.and_then(|usage| usage.cached_tokens) > Some(0), "{reply:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_asked_for_on_a_stream_and_without_http2_all_the_same() -> Result<()> {
    let http1 = |config: &mut Config| {
        let options = &mut config.cluster("warmpath-indexer")?["typed_extension_protocol_options"];
        options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"] =
            json!({"http_protocol_options": {}});
        Ok(())
    };
    for is_http1 in [false, true] {
        let edit = |config: &mut Config| if is_http1 { http1(config) } else { Ok(()) };
        let stack = Stack::start_edited(StackOptions::default(), edit).await?;
        stack.gateway.wait_deciding().await?;
        // The manifest is asked for by calls, which end.
        let active = "envoy_cluster_upstream_rq_active{envoy_cluster_name=\"warmpath-indexer\"}";
        eventually("a stream", async || {
            Ok(stack.gateway.envoy.metrics().await?.get(active).is_some_and(|open| *open >= 1.0))
        })
        .await?;
        for turn in 0..20 {
            let reply = stack.gateway.client().chat(&chat(&format!("stream {turn}"))).await?;
            let reason = routed(&reply).1;
            assert!(["load", "prefix"].contains(&reason), "HTTP/1.1: {is_http1}: {reason}");
        }
    }
    Ok(())
}
