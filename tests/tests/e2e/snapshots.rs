//! The index over a restart of the indexer: back, beyond what engines replay, where the
//! engine is the same, and not where it is another.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;
use warmpath_simworker::{Fleet, Options};
use warmpath_testbed::Client;
use warmpath_testbed::indexer::{Indexer, IndexerOptions};
use warmpath_testbed::stack::{GatewayOptions, engines, tiny_model};

use crate::support::eventually;

/// Batches that the engines keep for replays.
const KEPT: usize = 4;

/// Tokens of a prompt of twelve blocks that no other number has.
fn prompt(number: u32) -> Vec<u32> {
    (0..192).map(|at| 300 + (number * 37 + at) % 900).collect()
}

/// How many blocks of each worker the index has of a prompt.
async fn overlaps(indexer: &Indexer, number: u32) -> Result<[u64; 2]> {
    let question = json!({"model": "tiny", "token_ids": prompt(number)});
    let answer = indexer.post("/v1/overlap", &question).await?;
    let of = |worker: &str| -> u64 {
        let holders = answer["holders"].as_array().into_iter().flatten();
        let its = holders.filter(|holder| holder["worker"] == worker);
        its.filter_map(|holder| holder["blocks"].as_u64()).sum()
    };
    Ok(["0", "1"].map(of))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_brings_back_what_engines_no_longer_replay_unless_they_began_anew() -> Result<()>
{
    let fleet = Fleet::start(Options {
        num_workers: 2,
        served_model_name: Some("tiny".to_owned()),
        prefill_tokens_per_second: 0.0,
        decode_ms_per_token: 0.0,
        buffer_steps: KEPT,
        ..Options::new(tiny_model()).on_free_ports()
    })
    .await?;
    let folder = TempDir::new()?;
    let snapshot = folder.path().join("index");
    let options = IndexerOptions {
        settings: json!({"index": {"snapshot": snapshot}}),
        block_size: Some(16),
        ..GatewayOptions::new("tiny", &tiny_model()).indexer
    };
    let mut indexer = Indexer::start(&options, &engines(&fleet), folder.path()).await?;
    for worker in fleet.workers() {
        let client = Client::new(&format!("http://{}", worker.http));
        // Far more steps than the engines keep.
        for number in 0..12 {
            let request = json!({"model": "tiny", "prompt": prompt(number), "max_tokens": 1});
            assert_eq!(client.completion(&request).await?.status, 200);
        }
    }
    eventually("all prompts in the index", async || Ok(overlaps(&indexer, 11).await? == [12, 12]))
        .await?;
    assert_eq!(overlaps(&indexer, 0).await?, [12, 12]);

    indexer.stop(Duration::from_secs(30));
    fleet.workers()[1].restart().await?;
    indexer.restart().await?;
    eventually("the oldest prompt at the engine that went on", async || {
        Ok(overlaps(&indexer, 0).await? == [12, 0])
    })
    .await?;
    assert_eq!(overlaps(&indexer, 11).await?, [12, 0]);

    // Without the file, what engines replay is all there is.
    indexer.kill();
    std::fs::write(&snapshot, "not a snapshot")?;
    indexer.restart().await?;
    eventually("the newest prompt", async || Ok(overlaps(&indexer, 11).await? == [12, 0])).await?;
    assert_eq!(overlaps(&indexer, 0).await?, [0, 0]);
    Ok(())
}
