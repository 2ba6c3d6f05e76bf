//! The part of vLLM's Prometheus page that says something about load and cache, and
//! the gauges of the other engines.
//!
//! Names, help texts, labels and the `_created` companions of the counters are
//! those of 0.32, so that a reader which matches prefixes carelessly is caught
//! here. Histograms are left out: nothing in this worker takes a decision by them.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{App, FINISH_REASONS};
use crate::EngineKind;
use crate::driver::Rank;
use crate::engine::Gauges;

/// A metric without labels of its own.
struct Metric {
    name: &'static str,
    help: &'static str,
    counter: bool,
    read: fn(&Rank, &Gauges) -> f64,
}

const METRICS: [Metric; 9] = [
    gauge("num_requests_running", "Number of requests in model execution batches.", |_, gauges| {
        gauges.running as f64
    }),
    gauge("num_requests_waiting", "Number of requests waiting to be processed.", |_, gauges| {
        gauges.waiting as f64
    }),
    gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", |_, gauges| {
        gauges.usage
    }),
    counter(
        "prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens.",
        |_, gauges| gauges.queries as f64,
    ),
    counter(
        "prefix_cache_hits",
        "Prefix cache hits, in terms of number of cached tokens.",
        |_, gauges| gauges.hits as f64,
    ),
    counter("num_preemptions", "Cumulative number of preemption from the engine.", |_, gauges| {
        gauges.preemptions as f64
    }),
    counter("prompt_tokens", "Number of prefill tokens processed.", |rank, _| {
        rank.prompt_tokens.load(Ordering::Relaxed) as f64
    }),
    counter(
        "prompt_tokens_cached",
        "Number of cached prompt tokens (local + external).",
        |_, gauges| gauges.hits as f64,
    ),
    counter("generation_tokens", "Number of generation tokens processed.", |rank, _| {
        rank.generated_tokens.load(Ordering::Relaxed) as f64
    }),
];

const fn gauge(name: &'static str, help: &'static str, read: fn(&Rank, &Gauges) -> f64) -> Metric {
    Metric { name, help, counter: false, read }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&Rank, &Gauges) -> f64,
) -> Metric {
    Metric { name, help, counter: true, read }
}

/// The gauges of SGLang: running, waiting, usage.
const SGLANG: [&str; 3] =
    ["sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage"];

/// Those of TensorRT-LLM.
const TRTLLM: [&str; 3] =
    ["trtllm_num_requests_running", "trtllm_num_requests_waiting", "trtllm_kv_cache_utilization"];

/// A page of three gauges; SGLang's name the rank, where there are several.
fn gauges(app: &App, names: [&str; 3], of_ranks: bool) -> String {
    let model = label(&app.options.model_name());
    let mut out = String::new();
    let ranks: Vec<Gauges> = app.ranks.iter().map(|rank| rank.gauges()).collect();
    let values: [fn(&Gauges) -> f64; 3] =
        [|one| one.running as f64, |one| one.waiting as f64, |one| one.usage];
    for (at, (name, value)) in names.into_iter().zip(values).enumerate() {
        let _ = writeln!(out, "# HELP {name} {name}\n# TYPE {name} gauge");
        if of_ranks && ranks.len() > 1 {
            for (rank, gauges) in ranks.iter().enumerate() {
                let labels = format!("dp_rank=\"{rank}\",model_name=\"{model}\",tp_rank=\"0\"");
                let _ = writeln!(out, "{name}{{{labels}}} {:?}", value(gauges));
            }
            continue;
        }
        let sum: f64 = ranks.iter().map(value).sum();
        let whole = if at == 2 { sum / ranks.len() as f64 } else { sum };
        let _ = writeln!(out, "{name}{{model_name=\"{model}\"}} {whole:?}");
    }
    out
}

/// `GET /metrics` of `trtllm-serve`: the iterations since it was last asked for.
pub(super) fn iterations(app: &App) -> Vec<Value> {
    let options = &app.options;
    let mut list = Vec::new();
    for (number, rank) in app.ranks.iter().enumerate() {
        for (iteration, gauges) in rank.drain_iterations() {
            let used = (gauges.usage * options.num_blocks as f64).round();
            let mut one = json!({
                "iter": iteration, "iterLatencyMS": 1.0,
                "numActiveRequests": gauges.running, "numQueuedRequests": gauges.waiting,
                "inflightBatchingStats": {
                    "numScheduledRequests": gauges.running, "numPausedRequests": 0,
                },
                "kvCacheStats": {
                    "maxNumBlocks": options.num_blocks, "usedNumBlocks": used,
                    "freeNumBlocks": options.num_blocks as f64 - used,
                    "tokensPerBlock": options.block_size,
                },
            });
            if app.ranks.len() > 1 {
                one["attentionDpRank"] = number.into();
            }
            list.push(one);
        }
    }
    list
}

/// The Prometheus page.
pub(super) fn page(app: &App) -> String {
    if app.options.engine.is_trtllm_serve() {
        return gauges(app, TRTLLM, false);
    }
    if app.options.engine == EngineKind::Sglang {
        return gauges(app, SGLANG, true);
    }
    let mut page = Page { out: String::new(), started: app.started };
    let model = label(&app.options.model_name());
    let ranks: Vec<(String, &Rank, Gauges)> = (app.ranks.iter().enumerate())
        .map(|(number, rank)| {
            let labels = format!("engine=\"{number}\",model_name=\"{model}\"");
            (labels, rank.as_ref(), rank.gauges())
        })
        .collect();
    for metric in &METRICS {
        let samples: Vec<(String, f64)> = ranks
            .iter()
            .map(|(labels, rank, gauges)| (labels.clone(), (metric.read)(rank, gauges)))
            .collect();
        page.family(metric.name, metric.help, metric.counter, &samples);
    }
    let finished: Vec<(String, f64)> = app
        .ranks
        .iter()
        .enumerate()
        .flat_map(|(number, rank)| {
            let model = &model;
            FINISH_REASONS.iter().zip(&rank.finished).map(move |(reason, count)| {
                let labels = format!(
                    "engine=\"{number}\",finished_reason=\"{reason}\",model_name=\"{model}\""
                );
                (labels, count.load(Ordering::Relaxed) as f64)
            })
        })
        .collect();
    page.family("request_success", "Count of successfully processed requests.", true, &finished);
    let options = &app.options;
    let config: Vec<(String, f64)> = (0..app.ranks.len())
        .map(|number| {
            let labels = format!(
                "block_size=\"{}\",enable_prefix_caching=\"True\",engine=\"{number}\",\
                 kv_cache_size_tokens=\"{}\",num_gpu_blocks=\"{}\"",
                options.block_size,
                options.num_blocks * options.block_size,
                options.num_blocks,
            );
            (labels, 1.0)
        })
        .collect();
    page.family("cache_config_info", "Information of the LLMEngine CacheConfig", false, &config);
    page.out
}

struct Page {
    out: String,
    started: f64,
}

impl Page {
    fn family(&mut self, name: &str, help: &str, counter: bool, samples: &[(String, f64)]) {
        if !counter {
            self.block(name, help, "gauge", samples);
            return;
        }
        self.block(&format!("{name}_total"), help, "counter", samples);
        let created: Vec<(String, f64)> =
            samples.iter().map(|(labels, _)| (labels.clone(), self.started)).collect();
        self.block(&format!("{name}_created"), help, "gauge", &created);
    }

    fn block(&mut self, name: &str, help: &str, kind: &str, samples: &[(String, f64)]) {
        let out = &mut self.out;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "vllm:{name}{{{labels}}} {value:?}");
        }
    }
}

/// A label's value with what the format wants escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
