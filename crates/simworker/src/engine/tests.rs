use proptest::prelude::*;

use super::*;

mod recorded;

fn config() -> Config {
    Config {
        block_size: 4,
        num_blocks: 33,
        max_num_seqs: 8,
        max_num_batched_tokens: 64,
        prefill_tokens_per_second: 1000.0,
        decode: Duration::from_millis(20),
        hash_seed: 7,
        partial_blocks: false,
    }
}

fn request(id: u64, prompt: Vec<u32>, answer: usize) -> Request {
    let answer = (0..answer as u32).map(|n| 10_000 + n).collect();
    Request { id, prompt, answer, scope: Arc::default(), report_hits: false }
}

fn with_scope(scope: Scope, request: Request) -> Request {
    Request { scope: Arc::new(scope), ..request }
}

/// Runs until nothing is left; the batches that would be published and the tokens.
fn run(engine: &mut Engine) -> (Vec<Vec<Event>>, Vec<Sampled>) {
    let mut batches = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..10_000 {
        if engine.schedule().is_none() {
            return (batches, tokens);
        }
        let outcome = engine.complete();
        batches.extend(Some(outcome.events).filter(|events| !events.is_empty()));
        tokens.extend(outcome.sampled);
    }
    panic!("the engine does not come to an end");
}

fn answer(engine: &mut Engine, request: Request) -> (Vec<Vec<Event>>, usize) {
    engine.submit(request);
    let (batches, tokens) = run(engine);
    (batches, tokens.last().expect("no token").cached_tokens)
}

fn stored(events: &[Event]) -> Vec<u64> {
    let hashes = events.iter().filter_map(|event| match event {
        Event::Stored { hashes, .. } => Some(hashes.clone()),
        _ => None,
    });
    hashes.flatten().collect()
}

#[test]
fn a_prompt_of_whole_blocks_computes_its_last_block_again_and_stores_a_copy() {
    let mut engine = Engine::new(config());
    let prompt: Vec<u32> = (0..16).collect();
    let (first, cached) = answer(&mut engine, request(1, prompt.clone(), 1));
    assert_eq!((stored(&first.concat()).len(), cached), (4, 0));
    let (second, cached) = answer(&mut engine, request(2, prompt, 1));
    assert_eq!((stored(&second.concat()), cached), (stored(&first.concat())[3..].to_vec(), 12));
    assert!(engine.pool.resident().values().any(|&copies| copies == 2));
}

#[test]
fn a_hit_is_silent_unless_the_request_asks_for_a_report() {
    let mut engine = Engine::new(config());
    let prompt: Vec<u32> = (0..18).collect();
    let (first, _) = answer(&mut engine, request(1, prompt.clone(), 1));
    assert_eq!(answer(&mut engine, request(2, prompt.clone(), 1)), (Vec::new(), 16));
    let report = Request { report_hits: true, ..request(3, prompt, 1) };
    let (batches, cached) = answer(&mut engine, report);
    assert_eq!((batches, cached), (first, 16));
}

#[test]
fn blocks_filled_while_decoding_are_announced_but_never_the_last_token() {
    let mut engine = Engine::new(config());
    let (batches, _) = answer(&mut engine, request(1, (0..6).collect(), 6));
    assert_eq!(batches.iter().map(|batch| stored(batch).len()).collect::<Vec<_>>(), [1, 1]);
    let Event::Stored { tokens, parent, .. } = &batches[1][0] else { panic!("{batches:?}") };
    assert_eq!(tokens, &[4, 5, 10_000, 10_001]);
    assert_eq!(*parent, Some(stored(&batches[0])[0]));
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_of_the_budget() {
    let mut engine = Engine::new(Config { max_num_batched_tokens: 8, ..config() });
    engine.submit(request(1, (0..20).collect(), 1));
    let mut times = Vec::new();
    while let Some(time) = engine.schedule() {
        times.push(time.as_millis());
        engine.complete();
    }
    assert_eq!(times, [8, 8, 4]);
}

#[test]
fn prefill_takes_time_for_uncached_tokens_only_and_decoding_its_cadence() {
    let mut engine = Engine::new(config());
    answer(&mut engine, request(1, (0..40).collect(), 1));
    engine.submit(request(2, (0..44).collect(), 2));
    assert_eq!(engine.schedule(), Some(Duration::from_millis(4)));
    engine.complete();
    engine.submit(request(3, (100..110).collect(), 1));
    assert_eq!(engine.schedule(), Some(Duration::from_millis(20)), "decode and prefill together");
}

#[test]
fn requests_beyond_the_batch_limit_wait_in_order() {
    let mut engine = Engine::new(Config { max_num_seqs: 2, ..config() });
    (1..=3).for_each(|id| engine.submit(request(id, vec![id as u32; 5], 2)));
    engine.schedule();
    assert_eq!((engine.gauges().running, engine.gauges().waiting), (2, 1));
    let (_, tokens) = run(&mut engine);
    let order: Vec<u64> = tokens.iter().filter(|token| token.last).map(|token| token.id).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn requests_of_one_step_find_the_blocks_of_the_one_before() {
    let mut engine = Engine::new(config());
    engine.submit(request(1, (0..18).collect(), 1));
    engine.submit(request(2, (0..18).collect(), 1));
    let (batches, tokens) = run(&mut engine);
    assert_eq!(tokens.iter().map(|token| token.cached_tokens).collect::<Vec<_>>(), [0, 16]);
    assert_eq!(stored(&batches.concat()).len(), 4);
}

#[test]
fn salt_and_adapter_separate_blocks_and_sessions_do_not() {
    let mut engine = Engine::new(config());
    let adapter = |name: &str| Some(Adapter { id: 1, name: name.into() });
    let salt = |text: &str| Some(text.to_owned());
    let scopes = [
        Scope::default(),
        Scope { cache_salt: salt("a"), ..Scope::default() },
        Scope { adapter: adapter("a"), ..Scope::default() },
        Scope { adapter: adapter("a"), cache_salt: salt("b"), ..Scope::default() },
        Scope { adapter: adapter("b"), cache_salt: salt("a"), ..Scope::default() },
    ];
    for (id, scope) in (1..).zip(&scopes) {
        let prompt = (0..10).collect();
        let (_, cached) = answer(&mut engine, with_scope(scope.clone(), request(id, prompt, 1)));
        assert_eq!(cached, 0, "{scope:?}");
    }
    let session = Scope { session: salt("s"), ..Scope::default() };
    let (_, cached) = answer(&mut engine, with_scope(session, request(9, (0..10).collect(), 1)));
    assert_eq!(cached, 8);
}

#[test]
fn another_seed_gives_other_hashes_for_the_same_content() {
    let hashes = |hash_seed| {
        let mut engine = Engine::new(Config { hash_seed, ..config() });
        stored(&answer(&mut engine, request(1, (0..16).collect(), 1)).0.concat())
    };
    assert_eq!(hashes(0), hashes(0));
    assert!(hashes(0).iter().all(|hash| !hashes(1).contains(hash)));
}

#[test]
fn a_reset_is_announced_with_the_next_step_only() {
    let mut engine = Engine::new(config());
    answer(&mut engine, request(1, (0..9).collect(), 1));
    assert!(engine.reset(false));
    assert_eq!(engine.schedule(), None);
    let (batches, cached) = answer(&mut engine, request(2, (0..9).collect(), 1));
    assert_eq!((&batches[0][0], cached), (&Event::Cleared, 0));
    assert_eq!(stored(&batches[0]).len(), 2);
}

#[test]
fn a_reset_fails_while_a_request_runs_unless_it_may_start_over() {
    let mut engine = Engine::new(config());
    engine.submit(request(1, (0..9).collect(), 5));
    engine.schedule();
    assert!(!engine.reset(false));
    assert!(engine.reset(true));
    assert_eq!(engine.complete().sampled, []);
    let (batches, tokens) = run(&mut engine);
    assert_eq!(tokens.len(), 5);
    assert_eq!(stored(&batches.concat()).len(), 3);
}

#[test]
fn an_aborted_request_leaves_its_blocks_in_the_cache() {
    let mut engine = Engine::new(config());
    engine.submit(request(1, (0..9).collect(), 50));
    engine.submit(request(2, (50..59).collect(), 50));
    engine.schedule();
    engine.abort(1);
    engine.complete();
    engine.abort(2);
    assert_eq!(engine.schedule(), None);
    assert_eq!(engine.gauges().usage, 0.0);
    assert_eq!(answer(&mut engine, request(3, (0..9).collect(), 1)).1, 8);
}

#[test]
fn without_blocks_the_youngest_request_starts_over_and_all_finish() {
    let mut engine = Engine::new(Config { num_blocks: 8, ..config() });
    (1..=3).for_each(|id| engine.submit(request(id, vec![id as u32; 6], 18)));
    let (_, tokens) = run(&mut engine);
    assert!(engine.gauges().preemptions > 0);
    for id in 1..=3 {
        let answer: Vec<u32> =
            tokens.iter().filter(|token| token.id == id).map(|token| token.token).collect();
        assert_eq!(answer, (10_000..10_018).collect::<Vec<_>>());
    }
}

#[derive(Clone, Debug)]
enum Action {
    Submit { family: u32, length: usize, answer: usize },
    Step,
    Abort(u64),
    Reset(bool),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..4u32, 1..30usize, 1..12usize)
            .prop_map(|(family, length, answer)| Action::Submit { family, length, answer }),
        8 => Just(Action::Step),
        1 => (0..20u64).prop_map(Action::Abort),
        1 => any::<bool>().prop_map(Action::Reset),
    ];
    prop::collection::vec(action, 1..120)
}

/// What a subscriber makes of the events: copies per hash.
#[derive(Default)]
struct Subscriber(hashbrown::HashMap<u64, usize>);

impl Subscriber {
    fn apply(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Stored { hashes, parent, tokens, first, .. } => {
                    assert_eq!(tokens.len(), hashes.len() * 4);
                    assert_eq!(parent.is_none(), *first);
                    hashes.iter().for_each(|&hash| *self.0.entry(hash).or_default() += 1);
                }
                Event::Removed { hash } => {
                    let copies = self.0.get_mut(hash).expect("removed without being stored");
                    *copies -= 1;
                    if *copies == 0 {
                        self.0.remove(hash);
                    }
                }
                Event::Partial { .. } => panic!("nobody asked for it"),
                Event::Cleared => self.0.clear(),
            }
        }
    }
}

fn audit(engine: &Engine) {
    let mut users = hashbrown::HashMap::new();
    for block in engine.running.iter().flat_map(|sequence| &sequence.blocks) {
        *users.entry(*block).or_insert(0) += 1;
    }
    engine.pool.audit(&users);
    assert!(engine.waiting.iter().all(|sequence| sequence.blocks.is_empty()));
    assert!(engine.running.len() <= engine.config.max_num_seqs);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_books_and_tells_subscribers_what_is_cached(
        actions in actions(),
        num_blocks in 12..40usize,
        max_num_batched_tokens in 3..40usize,
    ) {
        let config = Config { num_blocks, max_num_batched_tokens, max_num_seqs: 4, ..config() };
        let mut engine = Engine::new(config);
        let mut subscriber = Subscriber::default();
        for (id, action) in (0..).zip(actions) {
            match action {
                Action::Submit { family, length, answer } => {
                    let prompt = (0..length as u32).map(|n| family * 100 + n).collect();
                    engine.submit(request(id, prompt, answer));
                }
                Action::Step => {
                    if engine.schedule().is_some() {
                        audit(&engine);
                        subscriber.apply(&engine.complete().events);
                        prop_assert_eq!(&subscriber.0, &engine.pool.resident());
                    }
                }
                Action::Abort(id) => engine.abort(id),
                Action::Reset(restart) => { engine.reset(restart); }
            }
            audit(&engine);
        }
        for batch in run(&mut engine).0 {
            subscriber.apply(&batch);
        }
        audit(&engine);
        prop_assert_eq!(engine.gauges().usage, 0.0);

        // On an idle engine, what the events imply is what a request finds.
        let prompt: Vec<u32> = (0..25).collect();
        let mut chain = Chain::new(4, 7, &Scope::default());
        chain.extend(&prompt);
        let cleared = engine.events.contains(&Event::Cleared);
        let known = chain.hashes().iter().take_while(|hash| subscriber.0.contains_key(*hash));
        let implied = if cleared { 0 } else { known.count() * 4 };
        prop_assert_eq!(answer(&mut engine, request(1000, prompt, 1)).1, implied);
    }
}
