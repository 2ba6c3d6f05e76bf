use rand::SeedableRng;

use super::*;

/// The scores of a prompt of that many tokens.
pub(super) fn scores(policy: &dyn Policy, tokens: u64, candidates: &[Candidate]) -> Vec<f64> {
    scores_by(0, policy, tokens, candidates)
}

/// The same, with that seed.
pub(super) fn scores_by(
    seed: u64,
    policy: &dyn Policy,
    tokens: u64,
    candidates: &[Candidate],
) -> Vec<f64> {
    let mut scores = Vec::new();
    let prompt = Prompt { tokens, tracks_prefill: true };
    policy.score(prompt, candidates, &mut SmallRng::seed_from_u64(seed), &mut scores);
    scores
}

/// A candidate with that many requests in flight.
pub(super) fn busy(requests: f64) -> Candidate {
    let in_flight = InFlight { requests, ..InFlight::default() };
    Candidate { block_size: 16, in_flight, ..Candidate::default() }
}

#[test]
fn every_policy_scores_every_candidate() {
    let nothing_known = Candidate::default();
    let odd = Candidate { overlap_blocks: u32::MAX, block_size: u32::MAX, ..busy(f64::MAX) };
    for name in names() {
        let policies = Policies::new(Settings { policy: name.to_owned(), ..Settings::default() });
        let policies = policies.unwrap();
        let policy = policies.get(None).unwrap();
        for tokens in [0, 1, u64::MAX] {
            let scores = scores(policy, tokens, &[nothing_known, busy(1.0), odd]);
            assert_eq!(scores.len(), 3, "{name}");
            assert!(scores.iter().all(|score| !score.is_nan()), "{name} {tokens} {scores:?}");
        }
        assert!(scores(policy, 10, &[]).is_empty(), "{name}");
    }
}

#[test]
fn an_unknown_policy_is_refused_with_those_that_are_known() {
    let settings = Settings { policy: "tftt".to_owned(), ..Settings::default() };
    let error = Policies::new(settings).err().unwrap();
    assert_eq!(
        error.to_string(),
        "no policy \"tftt\"; known are ttft, cost, logit, two-tier, lmetric, least-loaded, \
         power-of-two, round-robin, random"
    );
}
