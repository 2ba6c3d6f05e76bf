//! Figures: percentiles, and Prometheus text read back.

use serde::Serialize;

/// Mean and percentiles of some values, in the values' unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// Nine in ten are at most this.
    pub p90: f64,
    /// 99 in 100 are at most this.
    pub p99: f64,
}

impl Percentiles {
    /// By nearest rank; all 0 without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or_default()
        };
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        Self { mean, p50: rank(50), p90: rank(90), p99: rank(99) }
    }
}

/// `100 · part / whole`, 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// The samples of a Prometheus text: name with labels, value.
pub fn prometheus(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.trim().rsplit_once(' ')?;
        Some((name, value.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let of_100 = Percentiles::of((1..=100).map(f64::from));
        assert_eq!(of_100, Percentiles { mean: 50.5, p50: 50.0, p90: 90.0, p99: 99.0 });
        assert_eq!(Percentiles::of([7.0]), Percentiles { mean: 7.0, p50: 7.0, p90: 7.0, p99: 7.0 });
        assert_eq!(Percentiles::of([]), Percentiles::default());
    }

    #[test]
    fn prometheus_samples_keep_their_labels() {
        let text = "# HELP x y\n# TYPE x counter\nx_total{a=\"b c\"} 3\nbad\ny 1.5\n";
        let read: Vec<_> = prometheus(text).collect();
        assert_eq!(read, [("x_total{a=\"b c\"}", 3.0), ("y", 1.5)]);
    }
}
