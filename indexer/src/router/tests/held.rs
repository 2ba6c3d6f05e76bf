//! Requests while workers are busy.

use std::time::Duration;

use super::*;
use crate::saturation::{QueuePolicy, SaturationConfig};

const LONG: Duration = Duration::from_secs(60);

/// Two workers of model "a", each busy with more than 100 tokens to prefill.
fn stage_of(change: impl FnOnce(&mut SaturationConfig)) -> Arc<Stage> {
    let fleet = Arc::new(fleets::fleet());
    fleet.add(fleets::quiet("0", "a", 8100, 1)).unwrap();
    fleet.add(fleets::quiet("1", "a", 8101, 1)).unwrap();
    let mut saturation = SaturationConfig {
        active_prefill_tokens_threshold: Some(100.0),
        hold_ms: 60_000,
        ..SaturationConfig::default()
    };
    change(&mut saturation);
    let router = Router::new(Arc::clone(&fleet), fleets::names(), policies("cost"), 4);
    let nothing = PredictConfig { ttl_ms: 0, beside_events_ms: 0 };
    let router = router.predicting(nothing).saturating(saturation);
    Arc::new(Stage { router, fleet })
}

/// A prompt of so many blocks that no other shares.
fn fresh(id: &str, blocks: u64) -> RouteRequest {
    let begin = id.bytes().fold(7, |hash: u64, byte| hash * 1000 + u64::from(byte));
    let hashes: Vec<u64> = (begin..begin + blocks).collect();
    RouteRequest { request_id: id.into(), ..request(&hashes) }
}

impl Stage {
    fn ask(&self, request: RouteRequest) -> Result<Asked, RouteError> {
        self.router.ask(self.router.question(request)?, Instant::now(), LONG)
    }

    fn held(&self, request: RouteRequest) -> Held {
        match self.ask(request).unwrap() {
            Asked::Held(held) => held,
            Asked::Decided(record) => panic!("decided: {:?}", record.decision),
        }
    }

    fn worker_of(&self, request: RouteRequest) -> String {
        match self.ask(request).unwrap() {
            Asked::Held(_) => panic!("held"),
            Asked::Decided(record) => record.decision.worker.clone(),
        }
    }

    /// Makes both workers busy.
    fn fill(&self) {
        assert_ne!(self.worker_of(fresh("w", 9)), self.worker_of(fresh("x", 9)));
    }

    fn free(&self, id: &str) {
        assert!(self.fleet.book().free(id, Instant::now()));
        self.router.wake();
    }
}

/// Serves held requests as the indexer does.
fn serve(stage: &Arc<Stage>) -> CancellationToken {
    let stop = CancellationToken::new();
    let (stage, token) = (Arc::clone(stage), stop.clone());
    tokio::spawn(async move { stage.router.serve_held(token).await });
    stop
}

#[tokio::test]
async fn a_busy_worker_is_passed_over_whatever_it_holds() {
    let stage = stage_of(|_| ());
    let prompt = fresh("w", 9);
    let first = stage.worker_of(prompt.clone());
    let again = RouteRequest { request_id: "again".into(), explain: true, ..prompt };
    let Asked::Decided(record) = stage.ask(again).unwrap() else { panic!("held") };
    assert_ne!(record.decision.worker, first);
    let scores = record.decision.scores.clone().unwrap();
    assert_eq!((scores[0].busy, scores[1].busy), (false, true));
    assert_eq!(record.decision.fallbacks.len(), 1, "busy is better than nobody");
}

#[tokio::test]
async fn a_request_is_held_until_a_worker_gets_free() {
    let stage = stage_of(|_| ());
    let _stop = serve(&stage);
    stage.fill();
    let (first, second) = (stage.held(fresh("a", 9)), stage.held(fresh("b", 9)));
    assert_eq!(first.at_most, LONG);
    stage.free("x");
    let decided = first.await.unwrap();
    assert_eq!(stage.fleet.book().requests(), 2, "and it is booked there");
    stage.free("w");
    assert_ne!(second.await.unwrap().decision.worker, decided.decision.worker);
}

#[tokio::test]
async fn nobody_overtakes_those_that_wait() {
    let stage = stage_of(|_| ());
    stage.fill();
    let first = stage.held(fresh("a", 9));
    assert!(stage.fleet.book().free("w", Instant::now()));
    let second = stage.held(fresh("b", 9));
    let _stop = serve(&stage);
    first.await.unwrap();
    stage.free("x");
    second.await.unwrap();
}

#[tokio::test]
async fn who_leaves_gives_the_place_up_and_nothing_stays_booked() {
    let stage = stage_of(|saturation| saturation.max_held = 1);
    stage.fill();
    let held = stage.held(fresh("a", 9));
    assert!(matches!(stage.ask(fresh("full", 9)).unwrap(), Asked::Decided(_)), "no room: routed");
    drop(held);
    let held = stage.held(fresh("b", 9));
    assert!(stage.fleet.book().free("w", Instant::now()));
    let stop = serve(&stage);
    // It is decided, and nobody takes the answer.
    for _ in 0..500 {
        if stage.fleet.book().requests() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stage.fleet.book().requests(), 3, "x, full and b");
    drop(held);
    assert_eq!(stage.fleet.book().requests(), 2);
    stop.cancel();
}

#[tokio::test]
async fn a_hold_ends_with_a_worker_or_a_refusal_as_the_operator_wants() {
    for refuse in [false, true] {
        let stage = stage_of(|saturation| {
            (saturation.hold_ms, saturation.refuse, saturation.retry_after_s) = (1, refuse, 7);
        });
        let _stop = serve(&stage);
        stage.fill();
        let late = stage.held(fresh("a", 9)).await;
        match refuse {
            false => assert_eq!(late.unwrap().request_id, "a"),
            true => assert_eq!(late.unwrap_err(), RouteError::Saturated(7)),
        }
    }
}

#[tokio::test]
async fn who_does_not_wait_is_routed_or_refused_at_once() {
    let stage = stage_of(|_| ());
    stage.fill();
    assert!(stage.route(fresh("a", 9)).is_ok());
    let stage = stage_of(|saturation| (saturation.hold_ms, saturation.refuse) = (0, true));
    stage.fill();
    assert_eq!(stage.ask(fresh("a", 9)).err().unwrap(), RouteError::Saturated(1));
    assert_eq!(stage.route(fresh("b", 9)).unwrap_err().code(), code::SATURATED);
    assert_eq!(stage.fleet.book().requests(), 2, "what is refused is not booked");
}

#[tokio::test]
async fn the_shortest_goes_first_where_that_is_wanted_and_priority_before_it() {
    let stage = stage_of(|saturation| saturation.queue_policy = QueuePolicy::Wspt);
    stage.fill();
    let long = stage.held(fresh("a", 90));
    let short = stage.held(fresh("b", 20));
    let urgent = stage.held(RouteRequest { priority: 50, ..fresh("c", 90) });
    let _stop = serve(&stage);
    stage.free("w");
    urgent.await.unwrap();
    stage.free("x");
    short.await.unwrap();
    stage.free("c");
    long.await.unwrap();
}

#[tokio::test]
async fn a_pin_waits_for_its_own_worker_and_holds_up_nobody() {
    let stage = stage_of(|_| ());
    let _stop = serve(&stage);
    let busy = stage.worker_of(fresh("w", 9));
    let pin = Some(busy.parse().unwrap());
    let pinned = stage.held(RouteRequest { pin, ..fresh("p", 9) });
    match stage.ask(fresh("a", 1)).unwrap() {
        Asked::Decided(record) => assert_ne!(record.decision.worker, busy),
        Asked::Held(held) => assert_ne!(held.await.unwrap().decision.worker, busy),
    }
    stage.free("w");
    assert_eq!(pinned.await.unwrap().decision.worker, busy);
}

#[tokio::test]
async fn at_the_end_whoever_is_held_is_routed() {
    let stage = stage_of(|saturation| saturation.refuse = true);
    let stop = serve(&stage);
    stage.fill();
    let held = stage.held(fresh("a", 9));
    stop.cancel();
    assert!(held.await.is_ok());
}
