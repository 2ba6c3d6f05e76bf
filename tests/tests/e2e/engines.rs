//! Every engine through the whole stack, and several kinds in one fleet.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use warmpath_simworker::{EngineKind, Fleet, Options};
use warmpath_testbed::Client;
use warmpath_testbed::corpus::{Case, corpus};
use warmpath_testbed::exact;
use warmpath_testbed::measure::prometheus;
use warmpath_testbed::stack::{Gateway, Stack, StackOptions, engines, with_ports};

use crate::support::{chat, eventually, gateway, routed, until_held};

fn speaking(engine: EngineKind) -> StackOptions {
    let mut options = StackOptions::default();
    options.sim = Options { engine, block_size: 32, topic: String::new(), ..options.sim };
    options
}

/// TensorRT-LLM's events do not name the salt that a prompt came with.
fn unsalted() -> Vec<Case> {
    let salted = |case: &Case| case.body.get("cache_salt").is_some();
    corpus("tiny", 0).into_iter().filter(|case| !salted(case)).collect()
}

async fn is_exact(options: StackOptions, cases: &[Case]) -> Result<()> {
    let stack = Stack::start(options).await?;
    let result = exact::check(&stack.gateway, &engines(&stack.fleet), cases, |_| ()).await;
    assert!(result.is_complete(), "{result:#?}");
    assert!(result.requests >= 50 && result.cached_tokens > 0, "{result:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sglang_is_predicted_exactly() -> Result<()> {
    is_exact(speaking(EngineKind::Sglang), &corpus("tiny", 0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tensorrt_llms_own_publisher_is_predicted_exactly() -> Result<()> {
    is_exact(speaking(EngineKind::TrtllmZmq), &unsalted()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_beside_tensorrt_llm_is_predicted_exactly() -> Result<()> {
    is_exact(speaking(EngineKind::TrtllmSeed), &unsalted()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn trtllm_serve_over_http_is_predicted_exactly() -> Result<()> {
    let mut options = speaking(EngineKind::TrtllmHttp);
    options.sim.byte_hashes = true;
    options.sim.sliding_window = 512;
    options.sim.events_after_first_request = true;
    is_exact(options, &unsalted()).await
}

/// A metric of the indexer, of all workers together.
async fn metric(gateway: &Gateway, name: &str) -> Result<f64> {
    let page = Client::new(&format!("http://{}", gateway.indexer.admin));
    let text = page.get("/metrics", &[]).await?.text;
    let of_name = |known: &str| known.split('{').next() == Some(name);
    Ok(prometheus(&text).filter(|(known, _)| of_name(known)).map(|(_, value)| value).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_tokens_cost_no_request_and_are_told_of() -> Result<()> {
    let mut options = speaking(EngineKind::TrtllmHttp);
    options.sim.events_without_tokens = true;
    let stack = Stack::start(options).await?;
    let client = stack.gateway.client();
    for (turn, pin) in [Some("0"), Some("1"), None, None].into_iter().enumerate() {
        let pin: Vec<_> = pin.map(|pin| ("x-warmpath-worker", pin)).into_iter().collect();
        let body = chat(&format!("silence {turn}"));
        let reply = client.send("/v1/chat/completions", &body, &pin).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!routed(&reply).1.starts_with("fallback"), "{:?}", routed(&reply));
    }
    eventually("both workers degraded", async || {
        Ok(metric(&stack.gateway, "warmpath_events_degraded").await? >= 2.0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_moved_to_the_host_are_known_there_and_come_back() -> Result<()> {
    let mut options = speaking(EngineKind::TrtllmHttp);
    options.sim = Options {
        num_workers: 1,
        num_blocks: 41,
        host_blocks: 200,
        max_model_len: 1000,
        ..options.sim
    };
    let stack = Stack::start(options).await?;
    let prompt = |topic: u32| -> Vec<u32> { (0..640).map(|at| 300 + topic * 700 + at).collect() };
    let send = async |topic: u32| {
        let body = json!({"model": "tiny", "prompt": prompt(topic), "max_tokens": 1});
        stack.gateway.client().completion(&body).await
    };
    let reach = async |tier: &str| -> Result<u64> {
        let question = json!({"model": "tiny", "token_ids": prompt(0)});
        let answer = stack.gateway.indexer.post("/v1/overlap", &question).await?;
        Ok(answer["holders"][0]["tiers"][tier].as_u64().unwrap_or(0))
    };
    for topic in 0..4 {
        assert_eq!(send(topic).await?.status, 200);
    }
    let on_host = async || Ok(reach("device").await? < 20 && reach("host").await? == 20);
    eventually("the first prompt on the host", on_host).await?;
    assert_eq!(send(0).await?.status, 200);
    eventually("it on the device again", async || Ok(reach("device").await? == 20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn trtllm_serve_that_begins_anew_is_forgotten_and_followed() -> Result<()> {
    let mut options = speaking(EngineKind::TrtllmHttp);
    options.sim.num_workers = 1;
    let stack = Stack::start(options).await?;
    let client = stack.gateway.client();
    until_held(&client, &chat("lives"), "0").await?;
    stack.fleet.workers()[0].restart().await?;
    eventually("nothing of the former life", async || {
        let list = stack.gateway.indexer.get("/v1/workers").await?;
        let rank = &list["workers"][0]["ranks"][0];
        Ok(rank["blocks"] == 0 && rank["events"]["restarts"] == 1)
    })
    .await?;
    until_held(&client, &chat("lives"), "0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_of_other_engines_are_chosen_and_told_too() -> Result<()> {
    for kind in [EngineKind::Sglang, EngineKind::TrtllmHttp] {
        let mut options = speaking(kind);
        options.sim.num_workers = 1;
        options.sim.ranks = 2;
        let stack = Stack::start(options).await?;
        let client = stack.gateway.client();
        let body = chat("ranks of other engines");
        until_held(&client, &body, "0:1").await?;
        let reply = client.chat(&body).await?;
        assert_eq!((reply.status, routed(&reply).1), (200, "prefix"), "{}", reply.text);
        let id = reply.header("x-request-id").context("no request id")?;
        assert_eq!(stack.gateway.indexer.decision(id).await?["decision"]["rank"], 1, "{kind:?}");
        assert!(reply.usage.and_then(|usage| usage.cached_tokens) > Some(0), "{kind:?}");
        // A rank that the worker does not have is nobody's.
        let pin = [("x-warmpath-worker", "0:2")];
        let reply = client.send("/v1/chat/completions", &body, &pin).await?;
        assert_eq!((reply.status, routed(&reply).1), (200, "fallback-pin_unavailable"));
    }
    Ok(())
}

/// Worker 0 has blocks of 16 tokens, worker 1 of 32, worker 2 of 64, each another engine.
struct Mixed {
    gateway: Gateway,
    fleets: Vec<Fleet>,
    _folder: TempDir,
}

impl Mixed {
    /// They are chosen by overlap, not by speed: that of simulated engines is the
    /// test machine's.
    async fn start() -> Result<Self> {
        let kinds =
            [(EngineKind::Vllm, 16), (EngineKind::TrtllmHttp, 32), (EngineKind::Sglang, 64)];
        let mut fleets = Vec::new();
        for (engine, block_size) in kinds {
            let sim = StackOptions::default().sim;
            let sim = Options { engine, block_size, num_workers: 1, ..sim };
            fleets.push(Fleet::start(with_ports(sim)?).await?);
        }
        let folder = TempDir::new()?;
        let workers: Vec<_> = fleets.iter().flat_map(engines).collect();
        let mut options = gateway();
        options.indexer.policy = Some("logit".to_owned());
        let gateway = Gateway::start(&options, &workers, folder.path()).await?;
        gateway.wait_deciding().await?;
        Ok(Self { gateway, fleets, _folder: folder })
    }

    /// Sends a prompt of so many tokens, of which every two differ from those of
    /// another topic; pinned to a worker, or where it belongs.
    async fn send(&self, topic: u32, tokens: u32, pin: Option<&str>) -> Result<Value> {
        let prompt: Vec<u32> = (0..tokens).map(|at| 300 + topic * 700 + at).collect();
        let body = json!({"model": "tiny", "prompt": prompt, "max_tokens": 1});
        let pin: Vec<_> = pin.map(|pin| ("x-warmpath-worker", pin)).into_iter().collect();
        let reply = self.gateway.client().send("/v1/completions", &body, &pin).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let id = reply.header("x-request-id").context("no request id")?;
        self.gateway.indexer.decision(id).await
    }

    /// Sends it where it belongs, once no engine has anything to do any more.
    async fn send_at_rest(&self, topic: u32, tokens: u32) -> Result<Value> {
        eventually("engines at rest", async || {
            let list = self.gateway.indexer.get("/v1/workers").await?;
            let workers = list["workers"].as_array().context("no workers")?;
            Ok(workers.iter().all(|worker| worker["ranks"][0]["waiting"] == 0.0))
        })
        .await?;
        self.send(topic, tokens, None).await
    }

    /// Sends it to a worker until that is known to hold its full blocks.
    async fn teach(&self, topic: u32, tokens: u32, worker: &str, blocks: u32) -> Result<()> {
        eventually("the worker's blocks", async || {
            let record = self.send(topic, tokens, Some(worker)).await?;
            Ok(record["decision"]["overlap_blocks"] == blocks)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_several_engines_and_block_sizes_are_compared_in_tokens() -> Result<()> {
    let mixed = Mixed::start().await?;
    // Each engine's own events teach its own size, and a prompt is found where it is.
    for (worker, size, blocks) in [("0", 16, 31), ("1", 32, 15), ("2", 64, 7)] {
        let topic = worker.parse()?;
        mixed.teach(topic, 500, worker, blocks).await?;
        let record = mixed.send_at_rest(topic, 500).await?;
        let decision = &record["decision"];
        assert_eq!((&decision["worker"], &decision["reason"]), (&json!(worker), &json!("prefix")));
        assert_eq!(
            (&decision["block_size"], &decision["overlap_blocks"]),
            (&json!(size), &json!(blocks))
        );
    }
    // Eight blocks of 16 tokens are fewer tokens than seven of 64.
    mixed.teach(3, 130, "0", 8).await?;
    mixed.teach(3, 450, "2", 7).await?;
    let record = mixed.send_at_rest(3, 450).await?;
    assert_eq!(record["decision"]["worker"], "2", "{record}");
    // And fourteen of 32 are more than six of 64, or seven of 16.
    mixed.teach(4, 115, "0", 7).await?;
    mixed.teach(4, 390, "2", 6).await?;
    mixed.teach(4, 450, "1", 14).await?;
    let record = mixed.send_at_rest(4, 450).await?;
    assert_eq!(record["decision"]["worker"], "1", "{record}");

    // Every one's load was read, from what it has for a page.
    let list = mixed.gateway.indexer.get("/v1/workers").await?;
    for worker in list["workers"].as_array().context("no workers")? {
        assert_eq!(worker["load_rejected"], json!({}), "{worker}");
        assert_eq!(worker["ranks"][0]["events"]["rejected"], json!({}), "{worker}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_fleet_is_predicted_exactly() -> Result<()> {
    let mixed = Mixed::start().await?;
    // Until an engine has stored a block nobody knows how long its blocks are.
    for (worker, blocks) in [("0", 9), ("1", 4), ("2", 2)] {
        mixed.teach(8, 150, worker, blocks).await?;
    }
    let workers: Vec<_> = mixed.fleets.iter().flat_map(engines).collect();
    let result = exact::check(&mixed.gateway, &workers, &unsalted(), |_| ()).await;
    assert!(result.is_complete(), "{result:#?}");
    assert!(mixed.fleets.iter().all(|fleet| fleet.workers()[0].stats().requests > 5));
    Ok(())
}
