//! Policies as the router uses them, broken ones among them.

use std::collections::BTreeMap;

use super::*;
use crate::policy::names;

fn by(name: &str, id: &str, hashes: &[u64]) -> RouteRequest {
    RouteRequest { policy: Some(name.to_owned()), request_id: id.to_owned(), ..request(hashes) }
}

#[tokio::test]
async fn a_request_may_name_another_policy() {
    let stage = stage();
    for (number, name) in names().into_iter().enumerate() {
        stage.decision(by(name, &number.to_string(), &[1]));
    }
    let error = stage.route(by("fastest", "x", &[1])).unwrap_err();
    assert_eq!(error.code(), code::UNKNOWN_POLICY);
}

#[tokio::test]
async fn another_policy_decides_from_the_next_decision_on() {
    let stage = stage();
    stage.holds("0", 0, &[1, 2, 3]);
    for round in 0..9 {
        let warm =
            stage.decision(RouteRequest { request_id: round.to_string(), ..request(&[1, 2, 3]) });
        assert_eq!(warm.worker, "0", "logit follows the cache while queues are equal");
        stage.fleet.book().free(&round.to_string(), Instant::now());
        let report = Report { waiting: 0.0, running: Some(0.0), kv_usage: 0.0 };
        let worker = stage.worker("0");
        worker.report(&worker.ranks[0], report, Instant::now());
    }
    stage.router.set_policies(policies("round-robin"));
    let mut turns: BTreeMap<(String, u32), usize> = BTreeMap::new();
    for round in 0..9 {
        let next =
            stage.decision(RouteRequest { request_id: round.to_string(), ..request(&[1, 2, 3]) });
        *turns.entry((next.worker, next.rank)).or_default() += 1;
    }
    assert_eq!(turns.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[tokio::test]
async fn one_seed_makes_the_same_decisions() {
    let run = async || {
        let stage = stage();
        let draw = |round: i32| stage.decision(by("random", &round.to_string(), &[1]));
        (0..20).map(|round| (draw(round).worker, draw(round).rank)).collect::<Vec<_>>()
    };
    assert_eq!(run().await, run().await);
}

#[tokio::test]
async fn a_worker_without_load_reports_is_loaded_with_what_was_routed_there() {
    let stage = stage();
    let busy = Report { waiting: 0.0, running: Some(3.0), kv_usage: 0.1 };
    let worker = stage.worker("1");
    for rank in &worker.ranks {
        worker.report(rank, busy, Instant::now());
    }
    let mut seen = BTreeMap::new();
    for round in 0..4 {
        let next = stage.decision(by("least-loaded", &round.to_string(), &[]));
        *seen.entry(next.worker).or_insert(0) += 1;
    }
    assert!(seen["0"] >= 3, "it is filled up to the others' level: {seen:?}");
}

#[tokio::test]
async fn a_decision_is_booked_before_it_is_answered() {
    let stage = stage();
    let decision =
        stage.decision(RouteRequest { pin: Some("1:1".parse().unwrap()), ..request(&[1, 2]) });
    assert_eq!((decision.worker.as_str(), decision.rank), ("1", 1));
    let worker = stage.worker("1");
    let view = stage.fleet.book().in_flight(&worker.ranks[1].book, Instant::now());
    assert_eq!((view.requests, view.prefill_tokens), (1.0, 35.0));
    assert_eq!(stage.fleet.book().active().at(worker.holder(1)), 2);
    assert_eq!(stage.fleet.remove("1").await, Some(0));
    assert_eq!(stage.fleet.book().requests(), 0, "what was in flight there goes with the worker");
}

#[tokio::test]
async fn refused_requests_book_nothing() {
    let stage = stage();
    let pinned = |pin: &str| RouteRequest { pin: Some(pin.parse().unwrap()), ..request(&[1]) };
    for wrong in [pinned("9"), pinned("1:2"), pinned("2"), by("fastest", "x", &[1])] {
        stage.route(wrong).unwrap_err();
    }
    assert_eq!(stage.fleet.book().requests(), 0);
}
