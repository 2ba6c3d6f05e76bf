//! What the default policy must show, a line each.
//!
//! On the conversation trace no other policy may have its first tokens sooner, in the
//! mean or in 99 of 100; at 70 % of capacity it must find 97 % of what the pooled cache
//! has. The most worked worker stays below 1.3 of the mean. A hot prefix may cost at
//! most half of what pure overlap makes of it; and where nothing is shared, being aware of
//! caches may cost 3 % against the least loaded.

use std::fmt;

use serde::Serialize;

use crate::OVERLAP;
use crate::measure::Figures;

/// The policy that is held to it.
const OURS: &str = warmpath_indexer::policy::DEFAULT;

/// One thing to show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    what: String,
    passes: bool,
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}  {}", if self.passes { "pass" } else { "FAIL" }, self.what)
    }
}

type Figure = fn(&Figures) -> f64;

/// Whatever can be checked on one load at one share of capacity.
pub(crate) fn of(policies: &[Figures]) -> Vec<Check> {
    let Some(ours) = policies.iter().find(|one| one.policy == OURS) else { return Vec::new() };
    let named = |name: &str| policies.iter().find(|one| one.policy == name);
    let mut checks = Vec::new();
    let mut check = |passes: bool, what: String| checks.push(Check { what, passes });
    match ours.load {
        "conversation" => {
            let figures: [(&str, Figure); 2] =
                [("mean", |one| one.ttft_ms.mean), ("p99", |one| one.ttft_ms.p99)];
            for (name, figure) in figures {
                let others = policies.iter().filter(|one| one.policy != OURS);
                let best = others.min_by(|a, b| figure(a).total_cmp(&figure(b)));
                if let Some(best) = best {
                    let (own, other) = (figure(ours), figure(best));
                    let what = format!(
                        "ttft {name} {own:.0} ms, the best other {} {other:.0}",
                        best.policy
                    );
                    check(own <= other, what);
                }
            }
            if ours.capacity_pct <= 70.0 {
                let share = ours.cached_of_bound_pct;
                check(share >= 97.0, format!("cached {share:.1} % of the bound, at least 97"));
            }
            let most = ours.load_max_over_mean;
            check(most < 1.3, format!("load max/mean {most:.2}, below 1.3"));
        }
        "hot-prefix" => {
            if let Some(overlap) = named(OVERLAP) {
                let ratio = ours.ttft_ms.p99 / overlap.ttft_ms.p99;
                check(ratio <= 0.5, format!("p99 {ratio:.2} of pure overlap's, at most 0.5"));
            }
        }
        "no-sharing" => {
            if let Some(least) = named("least-loaded") {
                for (name, own, other) in [
                    ("mean", ours.ttft_ms.mean, least.ttft_ms.mean),
                    ("p99", ours.ttft_ms.p99, least.ttft_ms.p99),
                ] {
                    let ratio = own / other;
                    let what = format!("ttft {name} {ratio:.2} of least-loaded's, at most 1.03");
                    check(ratio <= 1.03, what);
                }
            }
        }
        _ => {}
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Ttft;

    fn figures(load: &'static str, policy: &str, mean: f64, p99: f64) -> Figures {
        Figures {
            load,
            capacity_pct: 70.0,
            policy: policy.to_owned(),
            ttft_ms: Ttft { mean, p50: 0.0, p90: 0.0, p99 },
            cached_tokens_pct: 30.0,
            cached_of_bound_pct: 96.0,
            load_max_over_mean: 1.1,
            load_cv: 0.0,
            requests_max_over_mean: 1.0,
            imbalance: Vec::new(),
        }
    }

    fn verdicts(policies: &[Figures]) -> Vec<bool> {
        of(policies).iter().map(|check| check.passes).collect()
    }

    #[test]
    fn the_best_other_is_what_counts() {
        let run = |load| {
            [
                figures(load, OURS, 100.0, 200.0),
                figures(load, "cost", 110.0, 190.0),
                figures(load, "least-loaded", 98.0, 300.0),
                figures(load, OVERLAP, 99.0, 400.0),
            ]
        };
        assert_eq!(verdicts(&run("conversation")), [false, false, false, true]);
        assert_eq!(verdicts(&run("hot-prefix")), [true]);
        assert_eq!(verdicts(&run("no-sharing")), [true, true]);
        assert!(verdicts(&run("no-sharing")[1..]).is_empty(), "ours is not there");
        assert!(verdicts(&run("agentic")).is_empty());
    }
}
