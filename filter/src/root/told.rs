//! Reports about answers, sent in batches.

use std::time::Duration;

use warmpath_protocol::{LIFECYCLE_PATH, LifecycleReport, MESSAGE_PACK};

use super::{FETCH_TIMEOUT, Purpose, Root};
use crate::host::{Host, Reply};
use crate::lifecycle::{self, Detail};
use crate::metrics;

impl Root {
    /// Has the indexer told at one of the next ticks.
    pub fn report(&mut self, host: &dyn Host, report: LifecycleReport) {
        if !self.reports.add(report) {
            self.metrics.count_reason(host, metrics::REPORTS_LOST, "queue_full");
        }
        self.hasten_reports(host);
    }

    /// Whether all answers are to be asked for their growth now.
    pub fn is_growth_due(&mut self, host: &dyn Host) -> bool {
        self.config.lifecycle == Detail::Full && self.reports.is_growth_due(host.now())
    }

    /// Reports wait while the indexer is not to be called.
    pub(super) fn send_reports(&mut self, host: &dyn Host, now: Duration) {
        if self.breaker.refuses(now) {
            return;
        }
        let Some(batch) = self.reports.due(now) else { return };
        let count = batch.len() as u64;
        let headers =
            [(":method", "POST"), (":path", LIFECYCLE_PATH), ("content-type", MESSAGE_PACK)];
        let sent = rmp_serde::to_vec_named(&batch).ok().is_some_and(|body| {
            self.call(host, Purpose::Reports(count), &headers, &body, FETCH_TIMEOUT).is_ok()
        });
        if !sent {
            self.lose_reports(host, count);
        }
    }

    pub(super) fn on_reports(&mut self, host: &dyn Host, count: u64, reply: &Reply) {
        self.reports.sent();
        if reply.status != Some(200) {
            self.metrics.count_reasons(host, metrics::REPORTS_LOST, "call", count);
        }
        self.hasten_reports(host);
    }

    fn hasten_reports(&mut self, host: &dyn Host) {
        if self.reports.is_pressing() {
            self.hasten_tick(host, lifecycle::PAUSE);
        }
    }

    fn lose_reports(&mut self, host: &dyn Host, count: u64) {
        self.reports.sent();
        self.metrics.count_reasons(host, metrics::REPORTS_LOST, "call", count);
    }
}
