//! A worker's metrics page, read again and again: Prometheus text, or the JSON
//! list of iterations that `trtllm-serve` has at the same path. Which of the two
//! is told by its first byte, so that one setting serves every engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Report, capacity, iterations, prometheus};
use crate::fleet::{Look, Worker};

/// Most bytes of a page that are read; vLLM's are some 100 KB.
const PAGE_MOST: usize = 4 << 20;

/// An engine that iterated not once in this time has no work: the longest
/// iterations are those of long prompts, well below a second.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// The reason that says that nobody listens.
const UNREACHABLE: &str = "unreachable";

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

/// What a page says of each rank now; the error is a reason as in the metrics.
pub(crate) async fn look(
    client: &reqwest::Client,
    url: &str,
    timeout: Duration,
) -> Result<BTreeMap<u32, Report>, &'static str> {
    let page = page(client, url, timeout).await?;
    if iterations::is_list(&page) {
        return Ok(iterations::read(&page)?.reports);
    }
    Some(prometheus::read(&page)).filter(|reports| !reports.is_empty()).ok_or("no_gauges")
}

/// What an engine is when it does nothing.
const IDLE: Report = Report { waiting: 0.0, running: Some(0.0), kv_usage: 0.0 };

/// The last iteration that a page told of.
#[derive(Default)]
struct News {
    number: Option<u64>,
    at: Option<Instant>,
}

impl News {
    fn is_new(&mut self, last: Option<u64>, now: Instant) -> bool {
        let is_new = last.is_some() && last != self.number;
        if is_new {
            (self.number, self.at) = (last, Some(now));
        }
        is_new
    }
}

impl Worker {
    /// Takes a page; the error is the reason to count.
    fn load_page(&self, page: &str, news: &mut News) -> Result<(), &'static str> {
        let now = Instant::now();
        let (engines, caches) = if iterations::is_list(page) {
            let list = iterations::read(page)?;
            if !news.is_new(list.last, now) {
                // Where statistics are off the list is always empty and says nothing.
                if news.at.is_some_and(|at| now.saturating_duration_since(at) >= IDLE_AFTER) {
                    self.ranks.iter().for_each(|rank| self.report(rank, IDLE, now));
                }
                return Ok(());
            }
            (list.reports, list.caches)
        } else {
            (prometheus::read(page), capacity::read(page))
        };
        self.learn_capacity(&caches);
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

/// Reads a worker's page until `stop`.
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
    let mut news = News::default();
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
        if let Err(reason) = page.and_then(|page| worker.load_page(&page, &mut news))
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
