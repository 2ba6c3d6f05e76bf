//! The routers that Warmpath succeeds were started by flags and asked over
//! HTTP; the same flags and the same question still do.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;
use warmpath_simworker::{Fleet, Options};
use warmpath_testbed::build::{self, Profile};
use warmpath_testbed::process::Process;
use warmpath_testbed::stack::{Stack, StackOptions, tiny_model};
use warmpath_testbed::{Client, ports};

use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_flags_start_an_indexer_that_answers_find_best_worker() -> Result<()> {
    let options = Options {
        num_workers: 2,
        base_http_port: ports::run(2)?,
        base_kv_events_port: ports::run(2)?,
        base_metrics_port: ports::run(2)?,
        base_replay_port: ports::run(2)?,
        ..Options::new(tiny_model())
    };
    let fleet = Fleet::start(options.clone()).await?;
    let router = ports::run(2)?;
    let mut command = Command::new(build::indexer(Profile::Dev)?);
    for (flag, value) in [
        ("--num-workers", 2),
        ("--block-size", 16),
        ("--base-http-port", options.base_http_port),
        ("--base-kv-events-port", options.base_kv_events_port),
        ("--base-metrics-port", options.base_metrics_port),
        ("--base-replay-port", options.base_replay_port),
        ("--router-port", router),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    let folder = TempDir::new()?;
    let mut indexer = Process::start("indexer", &mut command, &folder.path().join("indexer.log"))?;
    let admin = Client::new(&format!("http://127.0.0.1:{}", router + 1));
    let ready = async || admin.get("/readyz", &[]).await.is_ok_and(|reply| reply.status == 200);
    indexer.wait_ready(Duration::from_secs(60), ready).await?;

    // Worker 1 computes a prompt; its blocks become known through its events.
    let tokens: Vec<u32> = (500..580).collect();
    let prompt = json!({"model": "tiny", "prompt": tokens, "max_tokens": 1});
    let worker = Client::new(&format!("http://{}", fleet.workers()[1].http));
    let reply = worker.completion(&prompt).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let hashes = warmpath_blocks::local_hashes(&tokens, 16, warmpath_blocks::SEED);
    // The seeds printed hashes as signed numbers.
    let signed: Vec<i64> = hashes.iter().map(|hash| hash.cast_signed()).collect();
    let question = json!({"local_hashes": signed, "num_tokens": tokens.len()});
    let client = Client::new(&format!("http://127.0.0.1:{router}"));
    let mut answer = Value::Null;
    eventually("the prompt's blocks", async || {
        let reply = client.send("/find_best_worker", &question, &[]).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        answer = serde_json::from_str(&reply.text)?;
        Ok(answer["matched_blocks"] == 5)
    })
    .await?;
    assert_eq!(answer, json!({"worker_id": 1, "overlap": 1.0, "matched_blocks": 5}));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_scripts_find_the_model_and_ask_through_envoy() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let script = |name: &str| {
        let mut command = Command::new(build::workspace_root().join("scripts").join(name));
        command.env("PORT", stack.gateway.envoy.http.port().to_string());
        command.env("ROUTER_PORT", stack.gateway.indexer.api.port().to_string());
        for variable in ["MODEL", "URL", "ROUTER_URL", "TOKENIZER"] {
            command.env_remove(variable);
        }
        command
    };
    let mut ping = script("ping.sh");
    let answer = tokio::task::spawn_blocking(move || ping.output()).await??;
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    assert!(text.contains("x-warmpath-worker: "), "{text}");
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");

    // What aiperf would be asked; it is no dependency of the tests.
    let mut perf = script("perf.sh");
    perf.env("AIPERF", "echo");
    let asked = tokio::task::spawn_blocking(move || perf.output()).await??;
    let text = String::from_utf8_lossy(&asked.stdout);
    assert!(text.starts_with("profile --url http://localhost:"), "{text}");
    assert!(text.contains("--model tiny"), "{text}");
    assert!(text.contains("--isl 3000") && text.contains("--num-dataset-entries 10"), "{text}");
    Ok(())
}
