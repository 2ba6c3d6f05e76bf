//! `--callbacks`: for how long the filter keeps Envoy's worker thread at a time.
//!
//! Read from the filter's own histogram, in Envoy's buckets, which are a tenth of their
//! value wide at most. It is wall time: what the machine did meanwhile is in it, so the
//! longest of many thousand says more about a busy machine than about the filter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use warmpath_testbed::stack::Gateway;
use warmpath_testbed::{Client, Envoy};

use super::load::{self, Prompts};
use crate::output;

/// Merged into Envoy's answers that often.
const FLUSH: Duration = Duration::from_secs(6);
/// What no callback should take.
const LIMIT: f64 = 5000.0;
/// Bytes of a prompt that nobody has sent before.
const COLD: usize = 512 << 10;

/// The callbacks of one kind of work, in microseconds.
#[derive(Serialize)]
pub(super) struct Row {
    what: String,
    callbacks: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    longest: f64,
    /// Longer than 5 ms.
    too_long: u64,
}

/// What a histogram counted, by its buckets' lower bounds: upper bound and count.
type Buckets = BTreeMap<u64, (f64, u64)>;

/// A table's arrival, then each size with prompts that share their beginnings, then long
/// prompts that are new.
pub(super) async fn measure(
    gateway: &Gateway,
    model: &str,
    sizes: &[usize],
    users: usize,
    seconds: Duration,
) -> Result<Vec<Row>> {
    let mut before = Buckets::new();
    let mut rows = vec![row("a model's files arrive", &gateway.envoy, &mut before).await?];
    for &bytes in sizes {
        let step = output::step(&format!("{bytes} bytes"));
        let prompts = Arc::new(Prompts::new(model, bytes, 8));
        load::run(gateway.envoy.http, &prompts, users, seconds, usize::MAX).await?;
        rows.push(row(&format!("{bytes} bytes"), &gateway.envoy, &mut before).await?);
        step.done();
    }
    let step = output::step("long prompts that are new");
    for number in 0..16 {
        // Its size is what a prompt's text follows from.
        let prompts = Arc::new(Prompts::new(model, COLD + number, 1));
        load::run(gateway.envoy.http, &prompts, 1, seconds, 1).await?;
    }
    rows.push(row(&format!("{COLD} bytes, new"), &gateway.envoy, &mut before).await?);
    step.done();
    Ok(rows)
}

/// What came to the histogram since `before`.
async fn row(what: &str, envoy: &Envoy, before: &mut Buckets) -> Result<Row> {
    tokio::time::sleep(FLUSH).await;
    let now = buckets(envoy).await?;
    let mut new = Vec::new();
    for (lower, (upper, count)) in &now {
        let counted = before.get(lower).map_or(0, |(_, count)| *count);
        new.push((*upper, count.saturating_sub(counted)));
    }
    *before = now;
    let callbacks: u64 = new.iter().map(|(_, count)| count).sum();
    let at = |share: f64| {
        let mut left = (callbacks as f64 * share).ceil() as u64;
        new.iter()
            .find(|(_, count)| {
                left = left.saturating_sub(*count);
                left == 0
            })
            .map_or(0.0, |(upper, _)| *upper)
    };
    let longest = new.iter().rev().find(|(_, count)| *count > 0).map_or(0.0, |(upper, _)| *upper);
    let too_long = new.iter().filter(|(upper, _)| *upper > LIMIT).map(|(_, count)| count).sum();
    let what = what.to_owned();
    Ok(Row { what, callbacks, p50: at(0.5), p99: at(0.99), p999: at(0.999), longest, too_long })
}

async fn buckets(envoy: &Envoy) -> Result<Buckets> {
    let query = "/stats?format=json&histogram_buckets=detailed&filter=warmpath_callback";
    let page = Client::new(&format!("http://{}", envoy.admin)).get(query, &[]).await?;
    let page: Value = serde_json::from_str(&page.text).context("Envoy's statistics")?;
    let mut buckets = Buckets::new();
    let stats = page["stats"].as_array().into_iter().flatten();
    let details = stats.flat_map(|stat| stat["histograms"]["details"].as_array()).flatten();
    for bucket in details.flat_map(|detail| detail["totals"].as_array()).flatten() {
        let number = |name: &str| bucket[name].as_f64().unwrap_or(0.0);
        let upper = number("lower_bound") + number("width");
        buckets.insert(number("lower_bound") as u64, (upper, number("count") as u64));
    }
    Ok(buckets)
}

pub(super) fn print(rows: &[Row]) {
    println!(
        "\n{:28}{:>10}{:>8}{:>8}{:>8}{:>9}{:>11}",
        "µs a callback", "callbacks", "p50", "p99", "p99.9", "longest", "above 5 ms"
    );
    for Row { what, callbacks, p50, p99, p999, longest, too_long } in rows {
        println!(
            "{what:28}{callbacks:>10}{p50:>8.0}{p99:>8.0}{p999:>8.0}{longest:>9.0}{too_long:>11}"
        );
    }
}
