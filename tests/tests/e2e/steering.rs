//! No client steers: forged headers never reach a worker or a load balancer.

use anyhow::Result;
use warmpath_testbed::stack::{Destination, GatewayOptions};

use crate::support::{Captured, chat, gateway, routed};

const FORGED: [&str; 6] = [
    "x-gateway-destination-endpoint",
    "x-warmpath-cluster",
    "x-data-parallel-rank",
    "x-warmpath-worker",
    "x-warmpath-policy",
    "x-warmpath-explain",
];

/// Forges every header with values that would steer to upstream 1.
async fn strips_forged_headers(options: GatewayOptions) -> Result<()> {
    let options = options.filter("overrides", false);
    let captured = Captured::start(2, options).await?;
    let target = captured.upstreams[1].address.to_string();
    let forged: Vec<(&str, &str)> = FORGED
        .into_iter()
        .map(|name| match name {
            "x-gateway-destination-endpoint" => (name, target.as_str()),
            "x-warmpath-cluster" => (name, "worker-1"),
            _ => (name, "1"),
        })
        .collect();
    let client = captured.gateway.client();
    for _ in 0..8 {
        let reply = client.send("/v1/chat/completions", &chat("forgery"), &forged).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_ne!(routed(&reply).1, "pinned");
        assert!(reply.header("x-warmpath-scores").is_none());
        assert_eq!(client.get("/v1/models", &forged).await?.status, 200);
        assert_eq!(client.send("/other", &chat("forgery"), &forged).await?.status, 200);
    }
    for (path, steered) in
        [("/v1/models", false), ("/other", false), ("/v1/chat/completions", true)]
    {
        let received = captured.received(path);
        assert!(received.len() >= 8, "{path}");
        for request in received {
            for (name, value) in &forged {
                let Some(seen) = request.headers.get(*name) else { continue };
                // What the filter itself sets is the only thing that may stand there.
                let own = steered
                    && (*name == "x-gateway-destination-endpoint" || *name == "x-warmpath-cluster");
                assert!(own, "{name}: {seen:?} reached a worker on {path}");
                assert_ne!(seen, &format!("{value},forged"));
            }
        }
    }
    // Were the header obeyed, upstream 0 would have had none of these.
    for upstream in &captured.upstreams {
        let models = upstream.received().into_iter().filter(|one| one.path == "/v1/models");
        assert!(models.count() > 0, "the forged destination was obeyed");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_are_stripped_on_every_method() -> Result<()> {
    strips_forged_headers(gateway()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_clusters_are_stripped_on_every_method() -> Result<()> {
    let mut options = gateway();
    options.destination = Destination::ClusterHeader;
    strips_forged_headers(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_destinations_are_stripped_without_the_filter_too() -> Result<()> {
    let captured =
        Captured::start_edited(2, gateway(), |config| config.without_filter().map(drop)).await?;
    let target = captured.upstreams[1].address.to_string();
    let forged =
        [("x-gateway-destination-endpoint", target.as_str()), ("x-data-parallel-rank", "1")];
    let client = captured.gateway.client();
    for _ in 0..8 {
        client.send("/v1/chat/completions", &chat("forgery"), &forged).await?;
    }
    assert!(!captured.upstreams[0].received().is_empty(), "the forged destination was obeyed");
    for request in captured.received("/v1/chat/completions") {
        assert!(forged.iter().all(|(name, _)| !request.headers.contains_key(*name)));
    }
    Ok(())
}
