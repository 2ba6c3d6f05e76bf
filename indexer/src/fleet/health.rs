//! Whether a worker answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;

/// Failures in a row that make a worker down; one could be a busy moment.
const DOWN_AFTER: u32 = 2;

/// What the probes found.
///
/// A worker starts up: an indexer that restarts under load must not send
/// everybody away until the first probe is through.
#[derive(Debug, Default)]
pub struct Health {
    probe_failures: AtomicU32,
    scrape_failures: AtomicU32,
}

/// Which of the two looks at a worker saw something.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// The health probe.
    Probe,
    /// The scrape of its Prometheus page; counts only as far as the server
    /// could not be reached.
    Scrape,
}

impl Health {
    /// Whether the worker may be chosen.
    pub fn is_up(&self) -> bool {
        self.probe_failures.load(Ordering::Relaxed) < DOWN_AFTER
            && self.scrape_failures.load(Ordering::Relaxed) < DOWN_AFTER
    }

    /// Notes what a look saw; says whether the worker is now up where that changed.
    pub fn note(&self, look: Look, reached: bool) -> Option<bool> {
        let failures = match look {
            Look::Probe => &self.probe_failures,
            Look::Scrape => &self.scrape_failures,
        };
        let before = self.is_up();
        if reached {
            failures.store(0, Ordering::Relaxed);
        } else {
            failures.store(failures.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
        let after = self.is_up();
        (before != after).then_some(after)
    }
}

impl Worker {
    /// Notes what a look saw, and logs a change.
    pub fn saw(&self, look: Look, reached: bool) {
        match self.health.note(look, reached) {
            Some(true) => tracing::info!(worker = %self.name, "worker is up"),
            Some(false) => tracing::warn!(worker = %self.name, ?look, "worker is down"),
            None => {}
        }
    }
}

/// Probes a worker until `stop`.
pub(super) async fn follow(
    worker: Arc<Worker>,
    client: reqwest::Client,
    every: Duration,
    stop: CancellationToken,
) {
    let url = format!("http://{}{}", worker.config.endpoint, worker.config.health.path);
    let timeout = Duration::from_millis(worker.config.health.timeout_ms);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        let probe = async {
            ticks.tick().await;
            let answer = client.get(&url).timeout(timeout).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        match stop.run_until_cancelled(probe).await {
            Some(healthy) => worker.saw(Look::Probe, healthy),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_down_after_two_failures_and_up_after_one_success() {
        let health = Health::default();
        assert!(health.is_up());
        assert_eq!(health.note(Look::Probe, false), None);
        assert_eq!(health.note(Look::Probe, false), Some(false));
        assert_eq!(health.note(Look::Probe, false), None);
        assert_eq!(health.note(Look::Probe, true), Some(true));
    }

    #[test]
    fn failures_of_different_looks_do_not_add_up() {
        let health = Health::default();
        health.note(Look::Probe, false);
        health.note(Look::Scrape, false);
        assert!(health.is_up());
    }

    #[test]
    fn a_good_probe_does_not_hide_an_unreachable_page() {
        let health = Health::default();
        health.note(Look::Scrape, false);
        health.note(Look::Scrape, false);
        health.note(Look::Probe, true);
        assert!(!health.is_up());
    }
}
