//! The fleet on `/metrics`: read when a page is asked for, not kept twice.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use warmpath_radix::Tier;

use super::{Fleet, Rank, Worker};
use crate::book::InFlight;
use crate::events::RankSnapshot;
use crate::load::Load;

/// Shows a fleet on `/metrics`.
pub struct FleetMetrics(Arc<Fleet>);

impl FleetMetrics {
    /// Registers a fleet.
    pub fn register(fleet: Arc<Fleet>, registry: &mut Registry) {
        registry.register_collector(Box::new(Self(fleet)));
    }
}

impl fmt::Debug for FleetMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FleetMetrics")
    }
}

/// One rank as read for one page.
struct Reading {
    worker: Arc<Worker>,
    position: usize,
    blocks: usize,
    predicted: usize,
    status: RankSnapshot,
    load: Load,
    in_flight: InFlight,
    active_blocks: usize,
}

impl Reading {
    fn rank(&self) -> &Rank {
        &self.worker.ranks[self.position]
    }
}

struct Gauge {
    name: &'static str,
    help: &'static str,
    value: fn(&Reading) -> f64,
}

struct Counter {
    name: &'static str,
    help: &'static str,
    value: fn(&Reading) -> u64,
}

const GAUGES: &[Gauge] = &[
    Gauge {
        name: "worker_up",
        help: "Whether the worker answers its probes",
        value: |one| f64::from(u8::from(one.worker.health.is_up())),
    },
    Gauge {
        name: "events_connected",
        help: "Whether the rank's event stream is connected",
        value: |one| f64::from(u8::from(one.status.connected)),
    },
    Gauge {
        name: "events_degraded",
        help: "Whether the rank's events can not be had or used, so that it is routed without them",
        value: |one| f64::from(u8::from(one.status.degraded().is_some())),
    },
    Gauge {
        name: "events_last_seq",
        help: "Sequence number of the last event batch; -1 before the first",
        value: |one| one.status.last_seq.map_or(-1.0, |seq| seq as f64),
    },
    Gauge {
        name: "blocks_held",
        help: "Distinct blocks that the index says the rank holds on its device",
        value: |one| one.blocks as f64,
    },
    Gauge {
        name: "blocks_predicted",
        help: "Distinct blocks that the rank is only predicted to hold",
        value: |one| one.predicted as f64,
    },
    Gauge {
        name: "block_size_tokens",
        help: "The rank's block size; 0 while it is unknown",
        value: |one| f64::from(one.worker.block_size(one.rank())),
    },
    Gauge {
        name: "kv_usage_ratio",
        help: "Share of the rank's KV cache in use, by its last report",
        value: |one| one.load.kv_usage,
    },
    Gauge {
        name: "waiting_requests",
        help: "Requests in the rank's queue, decisions since its last report included",
        value: |one| one.load.waiting,
    },
    Gauge {
        name: "in_flight_requests",
        help: "Requests routed to the rank that have not finished, by the in-flight book",
        value: |one| one.in_flight.requests,
    },
    Gauge {
        name: "in_flight_prefill_tokens",
        help: "Prompt tokens that the rank has still to prefill, by the in-flight book",
        value: |one| one.in_flight.prefill_tokens,
    },
    Gauge {
        name: "in_flight_blocks",
        help: "Blocks of the prompts in flight at the rank, shared ones once",
        value: |one| one.active_blocks as f64,
    },
    Gauge {
        name: "prefill_tokens_per_second",
        help: "The rank's rate of prefill, as learned from first tokens",
        value: |one| one.in_flight.fit.rate(),
    },
    Gauge {
        name: "running_requests",
        help: "Requests in work, by the rank's last report",
        value: |one| one.load.running,
    },
];

const COUNTERS: &[Counter] = &[
    Counter {
        name: "worker_decisions",
        help: "Decisions for the rank",
        value: |one| one.rank().decisions.load(Ordering::Relaxed),
    },
    Counter {
        name: "prompt_tokens",
        help: "Tokens of the prompts that were routed to the rank",
        value: |one| one.rank().prompt_tokens.load(Ordering::Relaxed),
    },
    Counter {
        name: "overlap_tokens",
        help: "Those of the prompts' tokens that the rank held, or was predicted to",
        value: |one| one.rank().overlap_tokens.load(Ordering::Relaxed),
    },
    Counter {
        name: "predicted_overlap_tokens",
        help: "Those of the overlap's tokens that were only predicted",
        value: |one| one.rank().predicted_tokens.load(Ordering::Relaxed),
    },
    Counter {
        name: "event_batches",
        help: "Event batches applied",
        value: |one| one.status.batches,
    },
    Counter {
        name: "event_blocks_stored",
        help: "Blocks stored by events, further copies included",
        value: |one| one.status.stored_blocks,
    },
    Counter {
        name: "event_blocks_removed",
        help: "Copies of blocks removed by events",
        value: |one| one.status.removed_blocks,
    },
    Counter {
        name: "event_clears",
        help: "Caches cleared by events",
        value: |one| one.status.clears,
    },
    Counter {
        name: "event_gaps",
        help: "Jumps in the event sequence",
        value: |one| one.status.gaps,
    },
    Counter {
        name: "event_batches_lost",
        help: "Event batches that no replay brought back",
        value: |one| one.status.lost_batches,
    },
    Counter { name: "event_replays", help: "Replays asked for", value: |one| one.status.replays },
    Counter {
        name: "events_degradations",
        help: "Times that the rank's events could no longer be had or used",
        value: |one| one.status.degradations,
    },
    Counter {
        name: "engine_restarts",
        help: "Times that the rank's engine began anew",
        value: |one| one.status.restarts,
    },
];

impl FleetMetrics {
    fn read(&self) -> Vec<Reading> {
        let now = Instant::now();
        let view = self.0.view();
        let read = |worker: &Arc<Worker>, position: usize| {
            let rank = &worker.ranks[position];
            Reading {
                blocks: self.0.index().blocks(worker.holder(rank.rank), Tier::Device),
                predicted: self.0.index().predicted(worker.holder(rank.rank)),
                status: rank.status.snapshot(),
                load: rank.load.load(now),
                in_flight: self.0.book().in_flight(&rank.book, now),
                active_blocks: self.0.book().active().at(worker.holder(rank.rank)),
                worker: Arc::clone(worker),
                position,
            }
        };
        view.workers()
            .iter()
            .flat_map(|worker| (0..worker.ranks.len()).map(move |at| read(worker, at)))
            .collect()
    }
}

impl Collector for FleetMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let readings = self.read();
        let labels = |one: &Reading| {
            [("worker", one.worker.name.to_string()), ("rank", one.rank().rank.to_string())]
        };
        for gauge in GAUGES {
            let mut family =
                encoder.encode_descriptor(gauge.name, gauge.help, None, MetricType::Gauge)?;
            for one in &readings {
                family.encode_family(&labels(one))?.encode_gauge(&(gauge.value)(one))?;
            }
        }
        for counter in COUNTERS {
            let mut family =
                encoder.encode_descriptor(counter.name, counter.help, None, MetricType::Counter)?;
            for one in &readings {
                family
                    .encode_family(&labels(one))?
                    .encode_counter::<NoLabelSet, _, u64>(&(counter.value)(one), None)?;
            }
        }
        let rejections: [(_, _, fn(&Reading) -> _); 2] = [
            ("events_rejected", "Batches and events that could not be used", |one| {
                one.status.rejected.clone()
            }),
            ("events_ignored", "Sound events that are none of the index's", |one| {
                one.status.ignored.clone()
            }),
        ];
        for (name, help, counts) in rejections {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for one in &readings {
                let [worker, rank] = labels(one);
                for (reason, count) in counts(one) {
                    let labels = [worker.clone(), rank.clone(), ("reason", reason.to_owned())];
                    family
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut family = encoder.encode_descriptor(
            "load_rejected",
            "Load reports that could not be read",
            None,
            MetricType::Counter,
        )?;
        for one in readings.iter().filter(|one| one.position == 0) {
            for (reason, count) in one.worker.load_rejected.counts() {
                let labels =
                    [("worker", one.worker.name.to_string()), ("reason", reason.to_owned())];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let stats = self.0.index().stats();
        for (name, help, value) in [
            ("index_nodes", "Distinct blocks in the index", stats.nodes),
            ("index_holders", "Ranks that hold a block", stats.holders),
            ("index_bytes", "Heap that the index takes", stats.bytes),
            ("index_waiting_blocks", "Blocks that wait for their parent's event", stats.aside),
        ] {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode_gauge(&(value as u64))?;
        }
        for (name, help, value) in [
            ("index_evicted_blocks", "Blocks let go to stay below index.max_bytes", stats.evicted),
            ("index_lost_blocks", "Blocks that waited for their parent in vain", stats.lost),
        ] {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}
