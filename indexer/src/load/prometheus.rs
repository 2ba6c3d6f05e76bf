//! vLLM's gauges on its Prometheus page.
//!
//! A full parser of the exposition format was rejected: three gauges of one
//! page are wanted, whatever else stands on it, so a line that is not one of
//! them is skipped unread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Report, capacity};
use crate::fleet::{Look, Worker};

/// Most bytes of a page that are read; vLLM's are some 100 KB.
const PAGE_MOST: usize = 4 << 20;

/// The reason that says that nobody listens.
const UNREACHABLE: &str = "unreachable";

#[derive(Clone, Copy)]
enum Gauge {
    Waiting,
    Running,
    KvUsage,
}

/// vLLM's names, old and new.
const GAUGES: &[(&str, Gauge)] = &[
    ("vllm:num_requests_waiting", Gauge::Waiting),
    ("vllm:num_requests_running", Gauge::Running),
    ("vllm:kv_cache_usage_perc", Gauge::KvUsage),
    ("vllm:gpu_cache_usage_perc", Gauge::KvUsage),
];

#[derive(Clone, Copy, Debug, Default)]
struct Engine {
    waiting: Option<f64>,
    running: Option<f64>,
    kv_usage: Option<f64>,
}

/// The gauges of a page by the label `engine`, which is the rank; pages
/// without that label are of rank 0.
fn read(page: &str) -> BTreeMap<u32, Report> {
    let mut engines: BTreeMap<u32, Engine> = BTreeMap::new();
    for line in page.lines() {
        let Some((gauge, engine, value)) = sample(line) else { continue };
        let engine = engines.entry(engine).or_default();
        match gauge {
            Gauge::Waiting => engine.waiting = Some(value),
            Gauge::Running => engine.running = Some(value),
            Gauge::KvUsage => engine.kv_usage = Some(value),
        }
    }
    engines
        .into_iter()
        .filter_map(|(rank, engine)| {
            let report = Report {
                waiting: engine.waiting?,
                running: engine.running,
                kv_usage: engine.kv_usage.unwrap_or(0.0),
            };
            Some((rank, report))
        })
        .collect()
}

fn sample(line: &str) -> Option<(Gauge, u32, f64)> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    let gauge = GAUGES.iter().find(|(known, _)| *known == name)?.1;
    let (labels, value) = match rest.strip_prefix('{') {
        // A model's name may hold a brace; a value never does.
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    let value: f64 = value.split_whitespace().next()?.parse().ok()?;
    let engine = labels
        .split_once("engine=\"")
        .filter(|(before, _)| before.is_empty() || before.ends_with([',', ' ']))
        .and_then(|(_, after)| after.split('"').next())
        .map_or(Some(0), |engine| engine.parse().ok())?;
    (value.is_finite() && value >= 0.0).then_some((gauge, engine, value))
}

/// One report for a worker without ranks, whatever its engine is called: a
/// rank behind an external balancer keeps its own number.
fn summed(engines: &BTreeMap<u32, Report>) -> Option<Report> {
    let number = engines.len();
    (number > 0).then(|| Report {
        waiting: engines.values().map(|report| report.waiting).sum(),
        running: engines.values().map(|report| report.running).sum(),
        kv_usage: engines.values().map(|report| report.kv_usage).sum::<f64>() / number as f64,
    })
}

impl Worker {
    /// Takes a page; the error is the reason to count.
    fn load_page(&self, page: &str) -> Result<(), &'static str> {
        let engines = read(page);
        self.learn_capacity(&capacity::read(page));
        let now = Instant::now();
        if let [rank] = self.ranks.as_slice() {
            self.report(rank, summed(&engines).ok_or("no_gauges")?, now);
            return Ok(());
        }
        if engines.is_empty() {
            return Err("no_gauges");
        }
        for (number, report) in engines {
            match self.ranks.get(number as usize) {
                Some(rank) => self.report(rank, report, now),
                None => return Err("rank_out_of_range"),
            }
        }
        Ok(())
    }
}

/// Scrapes a worker's page until `stop`.
pub(crate) async fn follow(
    worker: Arc<Worker>,
    client: reqwest::Client,
    url: String,
    every: Duration,
    stop: CancellationToken,
) {
    let timeout = Duration::from_millis(worker.config.health.timeout_ms);
    // A page of some other server says nothing of the worker's own health.
    let own = url.strip_prefix("http://").and_then(|rest| rest.split('/').next())
        == Some(worker.config.endpoint.as_str());
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        let scrape = async {
            ticks.tick().await;
            page(&client, &url, timeout).await
        };
        let Some(page) = stop.run_until_cancelled(scrape).await else { return };
        if own {
            worker.saw(Look::Scrape, page != Err(UNREACHABLE));
        }
        if let Err(reason) = page.and_then(|page| worker.load_page(&page))
            && worker.load_rejected.count(reason)
        {
            tracing::warn!(worker = %worker.name, url, reason, "load page rejected; later ones of this kind are only counted");
        }
    }
}

async fn page(
    client: &reqwest::Client,
    url: &str,
    timeout: Duration,
) -> Result<String, &'static str> {
    // Slow is not dead: the page is made by a process that is busy with requests.
    let why = |error: reqwest::Error| if error.is_connect() { UNREACHABLE } else { "no_answer" };
    let mut answer = client.get(url).timeout(timeout).send().await.map_err(why)?;
    if !answer.status().is_success() {
        return Err("status");
    }
    let mut page = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(why)? {
        if page.len() + chunk.len() > PAGE_MOST {
            return Err("too_long");
        }
        page.extend_from_slice(&chunk);
    }
    String::from_utf8(page).map_err(|_| "not_text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_vllm_is_read_by_engine() {
        let page = "# HELP vllm:num_requests_waiting Number of requests waiting.\n\
            # TYPE vllm:num_requests_waiting gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 4.0\n\
            vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 2.0\n\
            vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 9.0\n\
            vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"tiny\"} 0.01758241758241763\n\
            vllm:num_requests_waiting{engine=\"1\",model_name=\"a}b\"} 1.0 1795164823628\n\
            process_open_fds 46.0\n";
        let read = read(page);
        assert_eq!(
            read[&0],
            Report { waiting: 2.0, running: Some(4.0), kv_usage: 0.017_582_417_582_417_63 }
        );
        assert_eq!(read[&1], Report { waiting: 1.0, running: None, kv_usage: 0.0 });
    }

    #[test]
    fn the_old_name_and_pages_without_engines_are_read() {
        let page = "vllm:num_requests_waiting{model_name=\"m\"} 1\n\
            vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.5\n";
        assert_eq!(read(page)[&0], Report { waiting: 1.0, running: None, kv_usage: 0.5 });
    }

    #[test]
    fn broken_lines_are_skipped() {
        let page = "vllm:num_requests_waiting{engine=\"x\"} 1\n\
            vllm:num_requests_waiting{engine=\"0\"} NaN\n\
            vllm:num_requests_waiting{engine=\"0\"\n\
            vllm:num_requests_waiting\n\u{0}\n";
        assert!(read(page).is_empty());
    }

    #[test]
    fn engines_of_a_worker_without_ranks_are_summed() {
        let one = |waiting, kv_usage| Report { waiting, running: Some(1.0), kv_usage };
        let engines = [(0, one(1.0, 0.5)), (3, one(2.0, 0.25))].into();
        assert_eq!(
            summed(&engines),
            Some(Report { waiting: 3.0, running: Some(2.0), kv_usage: 0.375 })
        );
        assert_eq!(summed(&BTreeMap::new()), None);
    }
}
