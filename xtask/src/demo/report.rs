//! The demo's figures: gathered, printed, judged.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;
use warmpath_testbed::indexer::Engine;
use warmpath_testbed::measure::{Percentiles, percent};
use warmpath_testbed::workload;

/// One run of the workload.
#[derive(Serialize)]
pub(super) struct Phase {
    #[serde(flatten)]
    figures: workload::Report,
    requests_per_worker: BTreeMap<String, u64>,
    /// What the filter added to each request; empty without it.
    #[serde(skip)]
    decision_us: Vec<f64>,
    /// How requests were decided, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<String, u64>,
}

impl Phase {
    /// From what the client measured and the lines of Envoy's access log.
    pub(super) fn new(figures: workload::Report, log: &[Value], engines: &[Engine]) -> Self {
        let mut requests_per_worker: BTreeMap<String, u64> =
            (0..engines.len()).map(|index| (index.to_string(), 0)).collect();
        let mut reasons = BTreeMap::new();
        for line in log {
            let upstream = line["upstream"].as_str().unwrap_or_default();
            let worker = engines.iter().position(|engine| engine.http.to_string() == upstream);
            if let Some(worker) = worker {
                *requests_per_worker.entry(worker.to_string()).or_default() += 1;
            }
            if let Some(reason) = line["reason"].as_str() {
                *reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
        // Filter state is text, whatever is in it.
        let micros = |line: &Value| line["decision_us"].as_str()?.parse().ok();
        let decision_us = log.iter().filter_map(micros).collect();
        Self { figures, requests_per_worker, decision_us, reasons }
    }

    fn shares(&self) -> String {
        let total = self.requests_per_worker.values().sum();
        let share = |count: &u64| format!("{:.0}", percent(*count, total));
        self.requests_per_worker.values().map(share).collect::<Vec<_>>().join(" / ")
    }
}

/// One of the percentiles.
type Pick = fn(&Percentiles) -> f64;

/// Both runs.
#[derive(Serialize)]
pub(crate) struct Report {
    requests: usize,
    errors: usize,
    workers: u16,
    round_robin: Phase,
    warmpath: Phase,
    decision_us: Percentiles,
}

impl Report {
    pub(super) fn new(workers: u16, round_robin: Phase, warmpath: Phase) -> Self {
        let phases = [&round_robin, &warmpath];
        Self {
            requests: phases.iter().map(|phase| phase.figures.requests).sum(),
            errors: phases.iter().map(|phase| phase.figures.errors).sum(),
            workers,
            decision_us: Percentiles::of(warmpath.decision_us.iter().copied()),
            round_robin,
            warmpath,
        }
    }

    /// Requests a second, and mean time to first token, by round robin's.
    pub(crate) fn gains(&self) -> (f64, f64) {
        let (before, after) = (&self.round_robin.figures, &self.warmpath.figures);
        (after.requests_per_s / before.requests_per_s, after.ttft_ms.mean / before.ttft_ms.mean)
    }

    pub(crate) fn print(&self) {
        let (before, after) = (&self.round_robin, &self.warmpath);
        let row = |name: &str, before: String, after: String, ratio: String| {
            println!("{name:<26}{before:>20}{after:>20}  {ratio}");
        };
        let times =
            |ratio: f64| if ratio.is_finite() { format!("{ratio:.2}×") } else { String::new() };
        println!();
        row("", "round robin".into(), "Warmpath".into(), String::new());
        let count = |phase: &Phase| phase.figures.requests.to_string();
        row("requests", count(before), count(after), String::new());
        let errors = |phase: &Phase| phase.figures.errors.to_string();
        row("errors", errors(before), errors(after), String::new());
        let cached = |phase: &Phase| phase.figures.cached_tokens_pct;
        row(
            "cached tokens %",
            format!("{:.1}", cached(before)),
            format!("{:.1}", cached(after)),
            times(cached(after) / cached(before)),
        );
        let rate = |phase: &Phase| phase.figures.requests_per_s;
        row(
            "requests/s",
            format!("{:.2}", rate(before)),
            format!("{:.2}", rate(after)),
            times(rate(after) / rate(before)),
        );
        let picks: [(&str, Pick); 4] =
            [("mean", |p| p.mean), ("p50", |p| p.p50), ("p90", |p| p.p90), ("p99", |p| p.p99)];
        for (name, pick) in picks {
            let ttft = |phase: &Phase| pick(&phase.figures.ttft_ms);
            row(
                &format!("TTFT {name}, ms"),
                format!("{:.0}", ttft(before)),
                format!("{:.0}", ttft(after)),
                times(ttft(after) / ttft(before)),
            );
        }
        row("share of each worker, %", before.shares(), after.shares(), String::new());
        for (name, pick) in picks.into_iter().filter(|(name, _)| matches!(*name, "p50" | "p99")) {
            let cost = format!("{:.0}", pick(&self.decision_us));
            row(&format!("decision {name}, µs"), "–".into(), cost, String::new());
        }
        for phase in [before, after] {
            if let Some(error) = &phase.figures.first_error {
                println!("first error: {error}");
            }
        }
    }

    /// An error where requests failed or a worker stood idle.
    pub(crate) fn verdict(&self) -> Result<()> {
        if self.errors > 0 {
            bail!("{} requests failed", self.errors);
        }
        for (name, phase) in [("round robin", &self.round_robin), ("Warmpath", &self.warmpath)] {
            let idle = phase.requests_per_worker.iter().find(|(_, count)| **count == 0);
            if let Some((worker, _)) = idle {
                bail!("worker {worker} had no request under {name}");
            }
        }
        Ok(())
    }
}
