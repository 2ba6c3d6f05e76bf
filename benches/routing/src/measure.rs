//! Figures of one run.

use std::fmt;

use serde::Serialize;

use crate::load::Load;
use crate::oracle::Bound;
use crate::world::Outcome;

/// What one policy did with one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) load: &'static str,
    pub(crate) capacity_pct: f64,
    pub(crate) policy: String,
    pub(crate) ttft_ms: Ttft,
    /// Of all prompt tokens, and of those that the pooled cache has.
    pub(crate) cached_tokens_pct: f64,
    pub(crate) cached_of_bound_pct: f64,
    /// The most worked worker against the mean, and the coefficient of variation.
    pub(crate) load_max_over_mean: f64,
    pub(crate) load_cv: f64,
    pub(crate) requests_max_over_mean: f64,
    /// Seconds since the start, and the most worked worker against the mean in a
    /// fifteenth of the arrivals before; for the plot.
    #[serde(skip)]
    pub(crate) imbalance: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ttft {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
}

/// Head of the table whose rows [`Figures`] are.
pub(crate) const HEADER: &str = "policy          ttft mean      p50      p90      p99 ms   cached %  of bound   \
                          load max/mean    cv   requests max/mean";

impl Figures {
    pub(crate) fn of(
        load: &Load,
        percent: f64,
        policy: &str,
        outcome: &Outcome,
        bound: &Bound,
    ) -> Self {
        let mut ttft = outcome.ttft.clone();
        ttft.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = ttft.len().saturating_sub(1);
            1000.0 * ttft.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
        };
        let cached: u64 = outcome.cached.iter().sum();
        let (load_max_over_mean, load_cv) = spread(&outcome.worked);
        let requests: Vec<f64> = outcome.requests.iter().map(|one| *one as f64).collect();
        Self {
            load: load.name,
            capacity_pct: percent,
            policy: policy.to_owned(),
            ttft_ms: Ttft {
                mean: 1000.0 * ttft.iter().sum::<f64>() / ttft.len().max(1) as f64,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
            },
            cached_tokens_pct: 100.0 * cached as f64 / bound.tokens.max(1) as f64,
            cached_of_bound_pct: 100.0 * cached as f64 / bound.cached.max(1) as f64,
            load_max_over_mean,
            load_cv,
            requests_max_over_mean: spread(&requests).0,
            imbalance: imbalance(&outcome.course),
        }
    }
}

/// How many parts of the course are looked at together.
const WINDOW: usize = 4;

/// The greatest over the mean of the work in each window.
fn imbalance(course: &[(f64, Vec<f64>)]) -> Vec<(f64, f64)> {
    let ends = course.windows(WINDOW + 1);
    let over = |end: &[(f64, Vec<f64>)]| {
        let ((_, before), (at, after)) = (end.first()?, end.last()?);
        let worked: Vec<f64> =
            after.iter().zip(before).map(|(after, before)| after - before).collect();
        Some((*at, spread(&worked).0))
    };
    ends.filter_map(over).collect()
}

/// The greatest over the mean, and the standard deviation over the mean.
fn spread(values: &[f64]) -> (f64, f64) {
    let number = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / number;
    if mean <= 0.0 {
        return (1.0, 0.0);
    }
    let variance = values.iter().map(|one| (one - mean) * (one - mean)).sum::<f64>() / number;
    let most = values.iter().copied().fold(0.0, f64::max);
    (most / mean, variance.sqrt() / mean)
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ttft { mean, p50, p90, p99 } = self.ttft_ms;
        write!(
            formatter,
            "{:14} {mean:10.0} {p50:8.0} {p90:8.0} {p99:8.0} {:13.1} {:9.1} {:15.2} {:5.2} {:19.2}",
            self.policy,
            self.cached_tokens_pct,
            self.cached_of_bound_pct,
            self.load_max_over_mean,
            self.load_cv,
            self.requests_max_over_mean,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_even_and_uneven_workers() {
        assert_eq!(spread(&[2.0, 2.0]), (1.0, 0.0));
        assert_eq!(spread(&[3.0, 1.0]), (1.5, 0.5));
        assert_eq!(spread(&[0.0, 0.0]), (1.0, 0.0));
    }

    #[test]
    fn imbalance_is_that_of_the_window_alone() {
        let course: Vec<(f64, Vec<f64>)> =
            (0..6u8).map(|part| (f64::from(part), vec![f64::from(part.min(4)), 4.0])).collect();
        assert_eq!(imbalance(&course), [(4.0, 2.0), (5.0, 2.0)]);
        assert!(imbalance(&course[..4]).is_empty());
    }
}
