//! Dynamo's golden selection, row for row (dynamo-llm 1.6,
//! `tests/data/selection_golden/aggregated_tracked.json`): block size 2, worker 1
//! holds A, worker 2 holds B, five requests, all kept in flight.

use std::time::Duration;

use super::*;
use crate::book::{Book, BookConfig};
use crate::config::{ModelConfig, WorkerConfig};
use crate::models::Names;

struct Row {
    prompt: Vec<u32>,
    worker: &'static str,
    overlap_blocks: u32,
    potential_decode_blocks: f64,
    uncached_tokens: f64,
}

fn rows() -> [Row; 5] {
    let (a, b) = ((100..=115), (200..=215));
    let row = |prompt, worker, overlap_blocks, potential_decode_blocks, uncached_tokens| Row {
        prompt,
        worker,
        overlap_blocks,
        potential_decode_blocks,
        uncached_tokens,
    };
    [
        row((100..=107).collect(), "1", 4, 4.0, 0.0),
        row((200..=203).chain(900..=911).collect(), "2", 2, 8.0, 12.0),
        row(a.clone().chain(1000..=1007).collect(), "1", 8, 12.0, 8.0),
        row(a.collect(), "1", 8, 12.0, 0.0),
        row(b.collect(), "2", 8, 14.0, 0.0),
    ]
}

fn hashes(tokens: &[u32]) -> Vec<u64> {
    warmpath_blocks::local_hashes(tokens, 2, warmpath_blocks::SEED)
}

#[tokio::test]
async fn dynamos_golden_table() {
    let model = ModelConfig {
        name: "m".into(),
        path: None,
        aliases: Vec::new(),
        adapters: Vec::new(),
        block_size: Some(2),
    };
    let names = Arc::new(Names::new(vec![model]));
    let stale = Duration::from_secs(10);
    let fleet = Arc::new(
        Fleet::new(
            Arc::new(warmpath_radix::Index::new()),
            Arc::clone(&names),
            Arc::new(Book::new(BookConfig::default(), stale)),
            stale,
            tokio_util::sync::CancellationToken::new(),
        )
        .unwrap(),
    );
    for (id, first) in [("1", 100), ("2", 200)] {
        let tree = serde_json::json!({
            "id": id, "endpoint": format!("127.0.0.1:{}", 8100 + first), "health": {"interval_ms": 0},
        });
        fleet.add(WorkerConfig::from_tree(&tree, &["m"]).unwrap()).unwrap();
        let stage = fleet.view();
        let holder = stage.named(id).unwrap().holder(0);
        let tokens: Vec<u32> = (first..first + 16).collect();
        let blocks: Vec<Block> = hashes(&tokens)
            .into_iter()
            .enumerate()
            .map(|(at, local)| Block { local, engine: EngineHash(at as u64) })
            .collect();
        let seed = warmpath_blocks::SEED;
        fleet.index().store(holder, Tier::Device, None, seed, &blocks).unwrap();
    }
    let router = Router::new(Arc::clone(&fleet), names, policies("cost"), 8);
    let now = Instant::now();
    for (number, row) in rows().into_iter().enumerate() {
        let request = RouteRequest {
            request_id: number.to_string(),
            model: "m".into(),
            tokens: row.prompt.len() as u64,
            hashes: [("2".to_owned(), hashes(&row.prompt).into_iter().map(Hash).collect())].into(),
            ..RouteRequest::default()
        };
        let record = router.decide(router.question(request).unwrap(), now).unwrap();
        let decision = &record.decision;
        assert_eq!((decision.worker.as_str(), number), (row.worker, number));
        assert_eq!(decision.overlap_blocks, row.overlap_blocks, "row {number}");
        let chosen = record.candidate(&decision.worker).unwrap();
        let blocks = chosen.active_blocks + chosen.new_blocks;
        assert_eq!(blocks, row.potential_decode_blocks, "row {number}");
        let uncached = chosen.uncached_tokens(row.prompt.len() as u64);
        assert_eq!(uncached, row.uncached_tokens, "row {number}");
    }
    let loads = ["1", "2"].map(|id| {
        let worker = Arc::clone(fleet.view().named(id).unwrap());
        let in_flight = fleet.book().in_flight(&worker.ranks[0].book, now);
        (in_flight.prefill_tokens, fleet.book().active().at(worker.holder(0)), in_flight.requests)
    });
    assert_eq!(loads, [(8.0, 12, 3.0), (12.0, 14, 2.0)]);
}
