use warmpath_radix::WorkerId;

use super::*;

const STALE: Duration = Duration::from_secs(10);

/// A book, two holders, and a clock that is moved by hand.
struct Desk {
    book: Book,
    ranks: [Arc<RankBook>; 2],
    now: Instant,
}

fn desk() -> Desk {
    desk_with(BookConfig::default())
}

fn desk_with(config: BookConfig) -> Desk {
    let book = Book::new(config, STALE);
    let ranks = [0, 1].map(|worker| book.rank(Holder { worker: WorkerId(worker), rank: 0 }));
    Desk { book, ranks, now: Instant::now() }
}

impl Desk {
    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// Books a prompt of 16-token blocks, of which the first `cached` are held.
    fn route(&self, id: &str, rank: usize, hashes: &[u64], cached: u64) {
        let tokens = hashes.len() as u64 * 16;
        let entry = Entry { request_id: id, hashes, tokens, cached: cached * 16 };
        self.book.book(&self.ranks[rank], entry, self.now);
    }

    fn report(&self, id: &str, event: LifecycleEvent, tokens: Option<u64>) -> bool {
        let report =
            LifecycleReport { request_id: id.to_owned(), event, tokens, cached_tokens: None };
        self.book.report(vec![report], self.now).applied == 1
    }

    fn engine(&self, rank: usize, waiting: f64, running: Option<f64>) {
        let report = Report { waiting, running, kv_usage: 0.0 };
        self.book.engine_report(&self.ranks[rank], report, self.now);
    }

    fn view(&self, rank: usize) -> InFlight {
        self.book.in_flight(&self.ranks[rank], self.now)
    }

    fn blocks(&self, rank: usize) -> usize {
        self.book.active().at(self.ranks[rank].holder)
    }
}

use LifecycleEvent::{Aborted, Done, FirstToken, Output};

#[test]
fn a_request_is_counted_from_its_decision_to_its_end() {
    let mut desk = desk();
    desk.route("a", 0, &[1, 2, 3, 4], 1);
    let view = desk.view(0);
    assert_eq!((view.requests, view.prefill_tokens, desk.blocks(0)), (1.0, 48.0, 4));
    desk.later(100);
    assert!(desk.report("a", FirstToken, None));
    assert_eq!((desk.view(0).requests, desk.view(0).prefill_tokens), (1.0, 0.0));
    assert!(desk.report("a", Output, Some(20)));
    assert_eq!(desk.view(0).output_tokens, 20.0);
    assert!(desk.report("a", Output, Some(12)), "a report that was overtaken");
    assert_eq!(desk.view(0).output_tokens, 20.0);
    assert!(desk.report("a", Done, Some(30)));
    let view = desk.view(0);
    assert_eq!((view.requests, view.output_tokens, desk.blocks(0)), (0.0, 0.0, 0));
    assert_eq!(desk.book.requests(), 0);
}

#[test]
fn prompts_that_share_a_prefix_share_its_blocks() {
    let desk = desk();
    desk.route("a", 0, &[1, 2, 3], 0);
    desk.route("b", 0, &[1, 2, 4], 2);
    desk.route("c", 1, &[1, 2, 4], 0);
    assert_eq!((desk.blocks(0), desk.blocks(1)), (4, 3));
    assert!(desk.report("a", Aborted, None));
    assert_eq!(desk.blocks(0), 3);
}

#[test]
fn ids_that_are_not_in_flight_are_answered_and_change_nothing() {
    let desk = desk();
    desk.route("a", 0, &[1], 0);
    desk.route("", 0, &[2], 0);
    let reports = ["a", "b", ""].map(|id| LifecycleReport {
        request_id: id.to_owned(),
        event: FirstToken,
        tokens: None,
        cached_tokens: Some(5),
    });
    let answer = desk.book.report(reports.into(), desk.now);
    assert_eq!((answer.applied, answer.unknown), (1, vec!["b".to_owned(), String::new()]));
    assert!(!desk.book.free("b", desk.now));
    assert_eq!(desk.view(0).requests, 2.0);
    assert!(desk.book.free("a", desk.now));
    assert!(!desk.book.free("a", desk.now), "it ends once");
    assert_eq!((desk.view(0).requests, desk.blocks(0)), (1.0, 1));
}

#[test]
fn an_id_that_is_routed_again_moves() {
    let desk = desk();
    desk.route("a", 0, &[1, 2], 0);
    desk.route("a", 1, &[1, 2], 0);
    assert_eq!((desk.view(0).requests, desk.blocks(0)), (0.0, 0));
    assert_eq!((desk.view(1).requests, desk.blocks(1)), (1.0, 2));
    assert!(desk.report("a", Done, None));
    assert_eq!((desk.view(1).requests, desk.book.requests()), (0.0, 0));
}

#[test]
fn a_lost_end_is_noticed_by_the_engines_own_count() {
    let mut desk = desk();
    for id in ["a", "b", "c"] {
        desk.route(id, 0, &[1], 0);
        desk.later(10);
    }
    desk.later(6000);
    assert!(desk.report("b", FirstToken, None));
    desk.engine(0, 0.0, Some(2.0));
    assert_eq!(desk.view(0).requests, 2.0);
    assert!(!desk.report("a", Done, None), "the longest silent went");
    assert!(desk.report("b", Output, None));
    desk.later(10);
    desk.engine(0, 0.0, Some(0.0));
    assert_eq!(desk.view(0).requests, 1.0, "b was heard of a moment ago");
}

#[test]
fn a_request_on_its_way_is_not_taken_for_lost() {
    let mut desk = desk();
    desk.route("z", 1, &[1], 0);
    assert!(desk.report("z", FirstToken, None), "lives are reported");
    desk.route("a", 0, &[1], 0);
    desk.later(200);
    desk.engine(0, 0.0, Some(0.0));
    assert_eq!(desk.view(0).requests, 1.0);
}

#[test]
fn silence_expires_unless_the_engine_vouches() {
    let mut desk = desk();
    desk.route("a", 0, &[1], 0);
    desk.route("b", 1, &[1], 0);
    for id in ["a", "b"] {
        assert!(desk.report(id, FirstToken, None));
    }
    for _ in 0..31 {
        desk.later(10_000);
        desk.engine(1, 0.0, Some(1.0));
    }
    assert_eq!((desk.view(0).requests, desk.view(1).requests), (0.0, 1.0));
    for _ in 0..100 {
        desk.later(10_000);
        desk.engine(1, 0.0, Some(1.0));
    }
    assert_eq!(desk.book.requests(), 0, "four times the expiry at last");
    assert_eq!((desk.blocks(0), desk.blocks(1)), (0, 0));
}

#[test]
fn without_reports_a_booking_bridges_the_time_to_the_engines_own() {
    let mut desk = desk();
    for id in ["a", "b", "c", "d"] {
        desk.route(id, 0, &[1, 2], 0);
    }
    desk.later(300);
    desk.engine(0, 0.0, Some(0.0));
    assert_eq!(desk.view(0).requests, 4.0, "they may be on their way");
    desk.later(1000);
    desk.route("e", 0, &[1, 2], 0);
    desk.engine(0, 2.0, Some(3.0));
    let view = desk.view(0);
    assert_eq!(view.requests, 5.0, "what the engine counts, ours among it");
    assert_eq!(desk.book.requests(), 1);
    assert!(view.prefill_tokens > 32.0, "one waits that is not booked: {view:?}");
    for round in 0..1000 {
        desk.route(&format!("r{round}"), 0, &[round], 0);
        desk.later(500);
        desk.engine(0, 0.0, Some(3.0));
    }
    assert!(desk.view(0).requests <= 5.0, "nothing piles up");
    assert!(desk.blocks(0) <= 5);
}

#[test]
fn without_reports_prompts_are_done_when_they_should_be() {
    let mut desk = desk();
    for id in ["a", "b", "c"] {
        desk.route(id, 0, &[1, 2, 3, 4], 0);
    }
    assert!(desk.view(0).wait > 0.05);
    desk.later(500);
    assert_eq!(desk.view(0).wait, 0.0);
}

#[test]
fn without_any_report_bookings_age_out() {
    let mut desk = desk();
    for round in 0..50 {
        desk.route(&format!("r{round}"), 0, &[round], 0);
        desk.later(1000);
    }
    let view = desk.view(0);
    assert!((8.0..=13.0).contains(&view.requests), "{view:?}");
    desk.later(12_000);
    assert_eq!((desk.view(0).requests, desk.blocks(0)), (0.0, 0));
}

#[test]
fn requests_of_other_routers_count_until_the_report_is_stale() {
    let mut desk = desk();
    desk.route("z", 1, &[1], 0);
    assert!(desk.report("z", FirstToken, None));
    desk.route("a", 0, &[1], 0);
    desk.engine(0, 1.0, Some(7.0));
    assert_eq!(desk.view(0).requests, 8.0);
    desk.later(11_000);
    assert_eq!(desk.view(0).requests, 1.0);
}

#[test]
fn there_is_a_most_and_the_longest_silent_goes() {
    let mut desk = desk_with(BookConfig { max_requests: 3, ..BookConfig::default() });
    for id in ["a", "b", "c", "d"] {
        desk.route(id, 0, &[1], 0);
        desk.later(1);
    }
    assert_eq!((desk.view(0).requests, desk.book.requests()), (3.0, 3));
    assert!(!desk.report("a", Done, None));
    assert!(desk.report("b", Done, None));
}

#[test]
fn first_tokens_teach_the_rate_and_the_wait_follows_it() {
    let mut desk = desk();
    let prompt: Vec<u64> = (0..1000).collect();
    for round in 0..200 {
        let id = round.to_string();
        desk.route(&id, 0, &prompt, round % 4 * 200);
        // 20,000 tokens a second, and nothing else.
        desk.later((1000 - round % 4 * 200) * 16 / 20);
        assert!(desk.report(&id, FirstToken, None));
        assert!(desk.report(&id, Done, None));
    }
    let fit = desk.view(0).fit;
    let whole = fit.seconds(Prefill::of(0.0, 16_000.0));
    assert!((whole / 0.8 - 1.0).abs() < 0.05, "{fit:?}");
    desk.route("a", 0, &prompt, 0);
    desk.route("b", 0, &prompt, 0);
    let full = desk.view(0).wait;
    assert!((full - 1.6).abs() < 0.2, "{full}");
    desk.later(400);
    let wait = desk.view(0).wait;
    assert!((full - wait - 0.4).abs() < 0.01, "the first is being worked on: {wait}");
    desk.later(5_000);
    let wait = desk.view(0).wait;
    assert!((wait - full / 2.0).abs() < 0.1, "late, but not done while nobody says so: {wait}");
}

#[test]
fn what_is_not_tracked_is_zero() {
    let config = BookConfig {
        track_active_blocks: false,
        track_prefill_tokens: false,
        ..BookConfig::default()
    };
    let desk = desk_with(config);
    desk.route("a", 0, &[1, 2], 0);
    let view = desk.view(0);
    assert_eq!((view.requests, view.prefill_tokens, view.wait), (1.0, 0.0, 0.0));
    assert_eq!(desk.blocks(0), 0);
}

#[test]
fn forgetting_a_holder_takes_all_of_it() {
    let desk = desk();
    desk.route("a", 0, &[1], 0);
    desk.route("b", 0, &[2], 0);
    desk.route("c", 1, &[2], 0);
    desk.book.forget(&desk.ranks[0]);
    assert_eq!((desk.view(0).requests, desk.blocks(0), desk.book.requests()), (0.0, 0, 1));
}
