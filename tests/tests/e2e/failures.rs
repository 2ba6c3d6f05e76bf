//! Nothing that breaks on our side, or at a worker, costs a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpListener;
use warmpath_testbed::envoy::Upstream;
use warmpath_testbed::ports;
use warmpath_testbed::stack::{Stack, StackOptions};

use crate::support::{Captured, chat, eventually, gateway, requests_counted, routed, until_held};

#[tokio::test(flavor = "multi_thread")]
async fn an_indexer_that_never_was_there_costs_nothing() -> Result<()> {
    let nobody = Upstream::Tcp(ports::loopback(ports::free()?));
    let captured =
        Captured::start_edited(2, gateway(), |config| config.indexer(&nobody).map(drop)).await?;
    for turn in 0..5 {
        let reply = captured.gateway.client().chat(&chat(&format!("absence {turn}"))).await?;
        assert_eq!((reply.status, routed(&reply).1), (200, "fallback-no_manifest"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_indexer_opens_the_breaker_and_no_request_fails() -> Result<()> {
    let options = gateway().filter("breaker_failures", 3).filter("breaker_open_ms", 60_000);
    let mut captured = Captured::start(2, options).await?;
    captured.gateway.indexer.kill();
    let client = captured.gateway.client();
    let mut reasons = Vec::new();
    for turn in 0..8 {
        let reply = client.chat(&chat(&format!("death {turn}"))).await?;
        assert_eq!(reply.status, 200);
        reasons.push(routed(&reply).1.to_owned());
    }
    assert!(reasons.iter().all(|reason| reason.starts_with("fallback-")), "{reasons:?}");
    assert_eq!(reasons.last().map(String::as_str), Some("fallback-breaker_open"), "{reasons:?}");
    let counted = requests_counted(&captured.gateway, &["fallback-breaker_open"]).await?;
    assert!(counted >= 1.0, "{counted}");
    Ok(())
}

/// Passes connections on to the indexer until it is told to swallow them.
async fn wormhole(
    socket: std::path::PathBuf,
    closed: Arc<AtomicBool>,
) -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (socket, closed) = (socket.clone(), closed.clone());
            tokio::spawn(async move {
                let Ok(mut indexer) = tokio::net::UnixStream::connect(socket).await else { return };
                let (mut from_client, mut to_client) = client.split();
                let (mut from_indexer, mut to_indexer) = indexer.split();
                let pump = async {
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_client, &mut to_indexer) => {}
                        _ = tokio::io::copy(&mut from_indexer, &mut to_client) => {}
                    }
                };
                let silence = async {
                    while !closed.load(Ordering::Relaxed) {
                        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    }
                };
                tokio::select! { () = pump => return, () = silence => {} }
                // The connection stays open and nothing moves any more.
                std::future::pending::<()>().await;
            });
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_indexer_meets_the_deadline_then_the_breaker() -> Result<()> {
    let options = gateway()
        .filter("deadline_ms", 50)
        .filter("breaker_failures", 3)
        .filter("breaker_open_ms", 60_000);
    let closed = Arc::new(AtomicBool::new(false));
    // The indexer's socket has a fixed place in the stack's folder, known only
    // once it runs; so the wormhole is put in front of a running one.
    let first = Captured::start(1, gateway()).await?;
    let address = wormhole(first.gateway.indexer.socket.clone(), closed.clone()).await?;
    let through = Upstream::Tcp(address);
    let captured = Captured::start_edited(1, options, |config| {
        config.indexer(&through)?.workers(&[first.upstreams[0].address]).map(drop)
    })
    .await?;
    captured.gateway.wait_loaded(1).await?;
    closed.store(true, Ordering::Relaxed);
    let client = captured.gateway.client();
    let mut reasons = Vec::new();
    // The first few may still be answered: silence falls within milliseconds.
    eventually("the breaker opens", async || {
        let reply = client.chat(&chat(&format!("silence {}", reasons.len()))).await?;
        assert_eq!(reply.status, 200);
        reasons.push(routed(&reply).1.to_owned());
        Ok(routed(&reply).1 == "fallback-breaker_open")
    })
    .await?;
    let timeouts = reasons.iter().filter(|reason| *reason == "fallback-indexer_timeout").count();
    assert!((1..=3).contains(&timeouts), "{reasons:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexer_killed_under_load_costs_no_request_and_overlap_returns() -> Result<()> {
    let mut stack = Stack::start(StackOptions::default()).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let mut load = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let (stop, sent, client) = (stop.clone(), sent.clone(), stack.gateway.client());
        load.spawn(async move {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let turn = sent.fetch_add(1, Ordering::Relaxed);
                match client.chat(&chat(&format!("lane {lane}, {}", turn % 7))).await {
                    Ok(reply) if reply.status == 200 => {}
                    Ok(reply) => failures.push(format!("{}: {}", reply.status, reply.text)),
                    Err(error) => failures.push(format!("{error:#}")),
                }
            }
            failures
        });
    }
    let more = async |count: usize| {
        let target = sent.load(Ordering::Relaxed) + count;
        eventually("more requests", async || Ok(sent.load(Ordering::Relaxed) >= target)).await
    };
    more(40).await?;
    let remembered = chat("what is remembered");
    let client = stack.gateway.client();
    let before = client.chat(&remembered).await?;
    let holder = routed(&before).0.to_owned();
    assert_ne!(holder, "none");

    stack.gateway.indexer.kill();
    more(40).await?;
    let without = client.chat(&chat("in between")).await?;
    assert!(routed(&without).1.starts_with("fallback-"), "{:?}", routed(&without));

    stack.gateway.indexer.restart().await?;
    // The engines' replay tells it what they hold; Envoy was not touched.
    until_held(&client, &remembered, &holder).await?;
    more(20).await?;
    stop.store(true, Ordering::Relaxed);
    let failures: Vec<String> = load.join_all().await.concat();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(stack.gateway.envoy.is_running());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_requests_go_to_a_fallback_and_it_is_skipped() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let client = stack.gateway.client();
    let body = chat("survival");
    let first = client.chat(&body).await?;
    let holder: usize = routed(&first).0.parse()?;
    stack.fleet.workers()[holder].kill().await;
    // At once, while the index still names the dead: a retry saves each.
    for turn in 0..6 {
        let reply = client.chat(&body).await?;
        assert_eq!(reply.status, 200, "request {turn}: {}", reply.text);
    }
    let (dead, other) = if holder == 0 { ("0", "1") } else { ("1", "0") };
    let pinned = [("x-warmpath-worker", dead)];
    eventually("the worker is known to be dead", async || {
        let reply = client.send("/v1/chat/completions", &chat("pin"), &pinned).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Ok(routed(&reply).1 == "fallback-pin_unavailable")
    })
    .await?;
    for turn in 0..4 {
        let reply = client.chat(&chat(&format!("who is left, {turn}"))).await?;
        assert_eq!((reply.status, routed(&reply).0), (200, other));
    }

    stack.fleet.workers()[holder].restart().await?;
    eventually("the worker takes part again", async || {
        let reply = client.send("/v1/chat/completions", &chat("pin"), &pinned).await?;
        Ok(routed(&reply).1 == "pinned")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_filter_configuration_is_logged_and_traffic_passes() -> Result<()> {
    for broken in ["{\"deadline_ms\": \"soon\", \"reprot\": true}", "not json"] {
        let captured =
            Captured::start_edited(1, gateway(), |config| config.raw_settings(broken).map(drop))
                .await?;
        let reply = captured.gateway.client().chat(&chat("mistakes")).await?;
        assert_eq!(reply.status, 200);
        assert_eq!(captured.gateway.client().get("/v1/models", &[]).await?.status, 200);
        let log = captured.gateway.envoy.log();
        let expected = if broken.contains("reprot") { "report" } else { "not a JSON object" };
        assert!(log.contains(expected), "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_answers_503_is_retried_elsewhere() -> Result<()> {
    let captured = Captured::start(2, gateway()).await?;
    let client = captured.gateway.client();
    captured.upstreams[0].refuse(true);
    for turn in 0..4 {
        let reply = client.chat(&chat(&format!("refusal {turn}"))).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.text, "ok");
    }
    let pinned = [("x-warmpath-worker", "0")];
    let body = json!({"model": "tiny", "prompt": "x"});
    let reply = client.send("/v1/completions", &body, &pinned).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    Ok(())
}
