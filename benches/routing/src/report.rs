//! The report: one page of Markdown with the tables, and a plot for each of them.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::checks::Check;
use crate::load::Load;
use crate::measure::{Figures, HEADER};
use crate::oracle::Bound;
use crate::plot;

/// Every policy on one load at one share of capacity.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    load: &'static str,
    capacity_pct: f64,
    requests: usize,
    /// From the first to the last arrival.
    seconds: f64,
    /// What was run.
    #[serde(skip)]
    pub(crate) title: String,
    /// How long it was, and what an oracle would do.
    #[serde(skip)]
    pub(crate) detail: String,
    /// Share of the prompt tokens that one pooled cache would have, in percent.
    pub(crate) bound_cached_pct: f64,
    /// Milliseconds to the first token with that cache and without any queue.
    pub(crate) bound_ttft_ms: f64,
    #[serde(skip)]
    pub(crate) policies: Vec<Figures>,
    /// What the default policy must show.
    pub(crate) checks: Vec<Check>,
}

impl Comparison {
    pub(crate) fn new(load: &Load, percent: f64, workers: usize, bound: &Bound) -> Self {
        let bound_cached_pct = 100.0 * bound.cached as f64 / bound.tokens.max(1) as f64;
        let bound_ttft_ms = 1000.0 * bound.ttft_mean;
        let title = format!("{} at {percent} % of {workers} workers", load.name);
        let detail = format!(
            "{} requests in {:.0} s; pooled cache {bound_cached_pct:.1} % cached, prefill alone {bound_ttft_ms:.0} ms",
            load.requests.len(),
            load.seconds(),
        );
        Self {
            load: load.name,
            capacity_pct: percent,
            requests: load.requests.len(),
            seconds: load.seconds(),
            title,
            detail,
            bound_cached_pct,
            bound_ttft_ms,
            policies: Vec::new(),
            checks: Vec::new(),
        }
    }
}

/// Writes `routing.md` and its pictures.
pub(crate) fn write(folder: &Path, all: &[Comparison]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("can not make the folder {}", folder.display()))?;
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("can not write {}", path.display()))
    };
    let mut page = String::from("# Routing policies on simulated workers, in virtual time\n");
    for comparison in all {
        let picture = format!("routing-{}-{}.svg", comparison.load, comparison.capacity_pct);
        file(&picture, &plot::svg(comparison))?;
        let _ = write!(page, "\n## {}\n\n![plot]({picture})\n\n```\n{HEADER}\n", comparison.title);
        for figures in &comparison.policies {
            let _ = writeln!(page, "{figures}");
        }
        for check in &comparison.checks {
            let _ = writeln!(page, "{check}");
        }
        page.push_str("```\n");
    }
    file("routing.md", &page)
}
