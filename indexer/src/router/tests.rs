use std::collections::BTreeMap;

use warmpath_protocol::{Hash, code};
use warmpath_radix::{Block, EngineHash, Tier};

use super::*;
use crate::fleet::{Look, Worker, tests as fleets};
use crate::load::Report;
use crate::policy::{Policy, Settings};

mod golden;
mod held;
mod policies;
mod predicted;

fn policies(name: &str) -> Policies {
    let settings = Settings { policy: name.to_owned(), seed: Some(1), ..Settings::default() };
    Policies::new(settings).unwrap()
}

struct Stage {
    router: Router,
    fleet: Arc<Fleet>,
}

/// Two workers of model "a" (the second has two ranks) and one of model "b".
fn stage() -> Stage {
    let fleet = Arc::new(fleets::fleet());
    fleet.add(fleets::quiet("0", "a", 8100, 1)).unwrap();
    fleet.add(fleets::quiet("1", "a", 8101, 2)).unwrap();
    fleet.add(fleets::quiet("2", "b", 8102, 1)).unwrap();
    Stage { router: Router::new(Arc::clone(&fleet), fleets::names(), policies("logit"), 4), fleet }
}

impl Stage {
    fn worker(&self, id: &str) -> Arc<Worker> {
        Arc::clone(self.fleet.view().named(id).unwrap())
    }

    fn holds(&self, id: &str, rank: u32, blocks: &[u64]) {
        let blocks: Vec<Block> =
            blocks.iter().map(|&local| Block { local, engine: EngineHash(local) }).collect();
        let holder = self.worker(id).holder(rank);
        self.fleet
            .index()
            .store(holder, Tier::Device, None, warmpath_blocks::SEED, &blocks)
            .unwrap();
    }

    fn route(&self, request: RouteRequest) -> Result<Arc<Record>, RouteError> {
        self.router.decide(self.router.question(request)?, Instant::now())
    }

    fn decision(&self, request: RouteRequest) -> Decision {
        self.route(request).unwrap().decision.clone()
    }
}

fn request(hashes: &[u64]) -> RouteRequest {
    let hashes: Vec<Hash> = hashes.iter().map(|&hash| Hash(hash)).collect();
    RouteRequest {
        request_id: "r".into(),
        model: "a".into(),
        tokens: hashes.len() as u64 * 16 + 3,
        hashes: BTreeMap::from([("16".to_owned(), hashes)]),
        ..RouteRequest::default()
    }
}

#[tokio::test]
async fn the_longest_prefix_wins_and_the_rest_follow() {
    let stage = stage();
    stage.holds("0", 0, &[1]);
    stage.holds("1", 1, &[1, 2, 3]);
    let decision = stage.decision(request(&[1, 2, 3, 4]));
    assert_eq!((decision.worker.as_str(), decision.rank, decision.ranks), ("1", 1, 2));
    assert_eq!((decision.overlap_blocks, decision.total_blocks), (3, 4));
    assert_eq!((decision.block_size, decision.reason), (16, Reason::Prefix));
    assert_eq!(decision.endpoint, "127.0.0.1:8101");
    assert_eq!(decision.cluster, "worker-1");
    assert_eq!(decision.fallbacks, ["127.0.0.1:8100"], "other workers of the model, each once");
    assert_eq!(decision.scores, None);
}

#[tokio::test]
async fn without_a_prefix_the_least_loaded_wins() {
    let stage = stage();
    let report = |waiting| Report { waiting, running: None, kv_usage: 0.0 };
    stage.worker("0").ranks[0].load.report(report(5.0), Instant::now());
    stage.worker("1").ranks[0].load.report(report(5.0), Instant::now());
    let decision = stage.decision(request(&[1]));
    assert_eq!((decision.worker.as_str(), decision.rank), ("1", 1));
    assert_eq!(decision.reason, Reason::Load);
}

#[tokio::test]
async fn decisions_without_reports_spread() {
    let stage = stage();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let decision = stage.decision(request(&[]));
        seen.insert((decision.worker, decision.rank));
    }
    assert_eq!(seen.len(), 3, "each of the three ranks once");
}

#[tokio::test]
async fn other_models_and_excluded_and_down_workers_are_not_chosen() {
    let stage = stage();
    stage.holds("2", 0, &[1]);
    stage.holds("1", 0, &[1]);
    let decision = stage.decision(RouteRequest { exclude: vec!["1".into()], ..request(&[1]) });
    assert_eq!((decision.worker.as_str(), decision.fallbacks.len()), ("0", 0));

    stage.worker("1").saw(Look::Probe, false);
    stage.worker("1").saw(Look::Probe, false);
    assert_eq!(stage.decision(request(&[1])).worker, "0");
    let nobody = RouteRequest { exclude: vec!["0".into()], ..request(&[1]) };
    assert_eq!(stage.route(nobody).unwrap_err(), RouteError::NoWorker);
}

#[tokio::test]
async fn a_pin_is_kept_or_refused() {
    let stage = stage();
    stage.holds("1", 0, &[1]);
    let pinned = |pin: &str| RouteRequest { pin: Some(pin.parse().unwrap()), ..request(&[1]) };
    let decision = stage.decision(pinned("0"));
    assert_eq!((decision.worker.as_str(), decision.reason), ("0", Reason::Pinned));
    let decision = stage.decision(pinned("1"));
    assert_eq!((decision.worker.as_str(), decision.rank), ("1", 0), "the better rank");
    assert_eq!(stage.decision(pinned("1:1")).rank, 1);
    for wrong in ["1:2", "2", "9"] {
        let error = stage.route(pinned(wrong)).unwrap_err();
        assert_eq!(error.code(), code::PIN_UNAVAILABLE, "{wrong}: {error}");
    }
    stage.worker("0").saw(Look::Probe, false);
    stage.worker("0").saw(Look::Probe, false);
    assert_eq!(stage.route(pinned("0")).unwrap_err(), RouteError::Pin("0".into(), "is down"));
}

#[tokio::test]
async fn a_worker_named_by_its_address_can_be_pinned() {
    let stage = stage();
    stage.fleet.add(fleets::quiet("10.0.0.5:1", "a", 8103, 2)).unwrap();
    let pinned = |pin: &str| RouteRequest { pin: Some(pin.parse().unwrap()), ..request(&[1]) };
    assert_eq!(stage.decision(pinned("10.0.0.5:1")).worker, "10.0.0.5:1");
    let decision = stage.decision(pinned("10.0.0.5:1:1"));
    assert_eq!((decision.worker.as_str(), decision.rank), ("10.0.0.5:1", 1));
}

#[tokio::test]
async fn hashes_of_another_block_size_count_as_holding_nothing() {
    let stage = stage();
    stage.holds("0", 0, &[1, 2]);
    let mut request = request(&[1, 2]);
    let hashes = request.hashes.remove("16").unwrap();
    request.hashes.insert("32".into(), hashes);
    let record = stage.route(request.clone()).unwrap();
    assert_eq!(record.decision.overlap_blocks, 0);
    assert_eq!(record.decision.reason, Reason::Load);
    request.hashes.insert("many".into(), Vec::new());
    assert_eq!(stage.route(request).unwrap_err(), RouteError::BlockSize("many".into()));
}

#[tokio::test]
async fn unknown_names_are_refused() {
    let stage = stage();
    let error = stage.route(RouteRequest { model: "c".into(), ..request(&[]) }).unwrap_err();
    assert_eq!(error.code(), code::UNKNOWN_MODEL);
    let other = RouteRequest { policy: Some("dice".into()), ..request(&[]) };
    assert_eq!(stage.route(other).unwrap_err().code(), code::UNKNOWN_POLICY);
}

#[tokio::test]
async fn a_decision_can_be_explained_then_and_later() {
    let stage = stage();
    stage.holds("0", 0, &[1, 2]);
    let decision = stage.decision(RouteRequest { explain: true, ..request(&[1, 2]) });
    let scores = decision.scores.unwrap();
    assert_eq!(scores.len(), 3);
    assert_eq!((scores[0].worker.as_str(), scores[0].overlap_blocks), ("0", 2));
    assert!(scores[0].score >= scores[1].score);

    let record = stage.router.ring.find("r").unwrap().report();
    assert_eq!(record["decision"]["worker"], "0");
    assert_eq!(record["scores"].as_array().unwrap().len(), 3);
    assert_eq!(record["last_sequence_hash"], warmpath_blocks::sequence_hash(1, 2));
}

#[tokio::test]
async fn only_the_last_decisions_are_remembered() {
    let stage = stage();
    for id in 0..6 {
        stage.decision(RouteRequest { request_id: id.to_string(), ..request(&[]) });
    }
    let last = stage.router.ring.last(100);
    let ids: Vec<_> = last.iter().map(|record| record.request_id.as_str()).collect();
    assert_eq!(ids, ["5", "4", "3", "2"]);
    assert!(stage.router.ring.find("1").is_none());
}

#[tokio::test]
async fn a_request_id_of_any_length_is_found_and_kept_short() {
    let stage = stage();
    let id = "é".repeat(100_000);
    let record = stage.route(RouteRequest { request_id: id.clone(), ..request(&[]) }).unwrap();
    assert!(record.request_id.len() <= 256);
    assert!(stage.router.ring.find(&id).is_some());
}

struct Broken;

impl Policy for Broken {
    fn score(&self, _: Prompt, candidates: &[Candidate], _: &mut SmallRng, scores: &mut Vec<f64>) {
        scores.extend(candidates.iter().map(|_| f64::NAN));
        scores[1] = -1e300;
    }
}

#[tokio::test]
async fn a_score_that_is_no_number_loses() {
    let fleet = Arc::new(fleets::fleet());
    fleet.add(fleets::quiet("0", "a", 8100, 1)).unwrap();
    fleet.add(fleets::quiet("1", "a", 8101, 1)).unwrap();
    fleet.add(fleets::quiet("2", "a", 8102, 1)).unwrap();
    let router = Router::new(fleet, fleets::names(), Policies::of(Box::new(Broken)), 4);
    let question = router.question(RouteRequest { explain: true, ..request(&[]) }).unwrap();
    let record = router.decide(question, Instant::now()).unwrap();
    assert_eq!(record.decision.worker, "1");
    assert_eq!(record.decision.scores.as_ref().unwrap()[0].worker, "1");
    assert!(serde_json::to_string(&record.decision).unwrap().contains("-1.797"));
}
