//! What workers will hold because of what was routed to them.

use std::time::Duration;

use super::*;

/// Two workers of model "a" whose events are not followed, or are.
fn stage_of(predict: PredictConfig, follows_events: bool) -> Stage {
    let fleet = Arc::new(fleets::fleet());
    for (id, port) in [("0", 8100), ("1", 8101)] {
        let mut config = fleets::quiet(id, "a", port, 1);
        config.total_kv_blocks = Some(64);
        if follows_events {
            let tree = serde_json::json!({"id": id, "model": "a", "endpoint": config.endpoint,
                "events": {"endpoint": "tcp://127.0.0.1:1"}, "health": {"interval_ms": 0}});
            config = crate::config::WorkerConfig::from_tree(&tree, &["a"]).unwrap();
        }
        fleet.add(config).unwrap();
    }
    let router = Router::new(Arc::clone(&fleet), fleets::names(), policies("logit"), 4);
    Stage { router: router.predicting(predict), fleet }
}

fn predicting(ttl_ms: u64, beside_events_ms: u64) -> PredictConfig {
    PredictConfig { ttl_ms, beside_events_ms }
}

impl Stage {
    fn at(&self, after: Duration, hashes: &[u64]) -> Arc<Record> {
        let question = self.router.question(request(hashes)).unwrap();
        self.router.decide(question, Instant::now() + after).unwrap()
    }
}

const NOW: Duration = Duration::ZERO;

#[tokio::test]
async fn a_worker_without_events_counts_as_holding_what_was_routed_to_it() {
    let stage = stage_of(predicting(1000, 0), false);
    let prompt: Vec<u64> = (1..=10).collect();
    let first = stage.at(NOW, &prompt);
    assert_eq!((first.decision.overlap_blocks, first.decision.reason), (0, Reason::Load));
    let again = stage.at(NOW, &prompt[..6]);
    assert_eq!(again.decision.worker, first.decision.worker);
    assert_eq!((again.decision.overlap_blocks, again.decision.predicted_blocks), (6, 6));
    assert_eq!(again.decision.reason, Reason::Prefix);
    let scores = again.report()["scores"].clone();
    assert_eq!(scores[0]["predicted_blocks"], 6, "{scores}");
    assert!(scores[1].get("predicted_blocks").is_none(), "{scores}");
    let worker = stage.worker(&again.decision.worker);
    assert_eq!(worker.ranks[0].predicted_tokens.load(Ordering::Relaxed), 96);
}

#[tokio::test]
async fn a_prediction_expires_unless_it_is_made_again() {
    let stage = stage_of(predicting(1000, 0), false);
    let begin = Instant::now();
    let worker = stage.at(NOW, &[1, 2, 3]).decision.worker.clone();
    let other = stage.at(NOW, &[7, 8, 9]).decision.worker.clone();
    assert_ne!(worker, other, "load decides");
    stage.at(Duration::from_millis(600), &[1, 2]);
    stage.router.expire_predictions(begin + Duration::from_millis(1400));
    assert_eq!(stage.at(NOW, &[1, 2, 3]).decision.predicted_blocks, 2);
    assert_eq!(stage.at(NOW, &[7, 8, 9]).decision.overlap_blocks, 0);
}

#[tokio::test]
async fn no_worker_is_predicted_to_hold_more_than_its_cache() {
    let stage = stage_of(predicting(100_000, 0), false);
    for turn in 0..20 {
        let prompt: Vec<u64> = (0..20).map(|block| 1000 * turn + block).collect();
        stage.at(NOW, &prompt);
    }
    for id in ["0", "1"] {
        let held = stage.fleet.index().predicted(stage.worker(id).holder(0));
        assert!((33..=64).contains(&held), "{held}");
    }
}

#[tokio::test]
async fn a_burst_of_equal_prompts_goes_together_up_to_what_one_can_take() {
    let burst = |number: usize| {
        let stage = stage_of(predicting(0, 0), true);
        stage.router.set_policies(policies("ttft"));
        let prompt: Vec<u64> = (0..500).collect();
        let mut workers = std::collections::BTreeMap::new();
        for number in 0..number {
            let asked = RouteRequest { request_id: number.to_string(), ..request(&prompt) };
            *workers.entry(stage.decision(asked).worker).or_insert(0) += 1;
        }
        workers
    };
    assert_eq!(burst(16).into_values().collect::<Vec<_>>(), [16]);
    let many = burst(64);
    assert_eq!(many.len(), 2, "{many:?}");
}

#[tokio::test]
async fn a_worker_that_went_down_comes_back_empty() {
    let stage = stage_of(predicting(100_000, 0), false);
    let worker = stage.at(NOW, &[1, 2, 3]).decision.worker.clone();
    let worker = stage.worker(&worker);
    worker.saw(Look::Probe, false);
    worker.saw(Look::Probe, false);
    stage.router.expire_predictions(Instant::now());
    worker.saw(Look::Probe, true);
    assert_eq!(stage.at(NOW, &[1, 2, 3]).decision.overlap_blocks, 0);
}

#[tokio::test]
async fn workers_with_events_are_predicted_only_where_that_is_asked_for() {
    let stage = stage_of(predicting(100_000, 0), true);
    stage.at(NOW, &[1, 2, 3]);
    assert_eq!(stage.at(NOW, &[1, 2, 3]).decision.overlap_blocks, 0);

    let stage = stage_of(predicting(0, 2000), true);
    let begin = Instant::now();
    let worker = stage.at(NOW, &[1, 2, 3]).decision.worker.clone();
    let second = stage.at(NOW, &[1, 2, 3]).decision.clone();
    assert_eq!((second.worker.as_str(), second.predicted_blocks), (worker.as_str(), 3));
    stage.holds(&worker, 0, &[1, 2]);
    let third = stage.at(NOW, &[1, 2, 3]).decision.clone();
    assert_eq!((third.overlap_blocks, third.predicted_blocks), (3, 1), "two have come");
    stage.router.expire_predictions(begin + Duration::from_secs(4));
    assert_eq!(stage.at(NOW, &[1, 2, 3]).decision.overlap_blocks, 2);
}
