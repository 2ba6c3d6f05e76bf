//! The engines' gauges in the Prometheus exposition format.
//!
//! A full parser of the format was rejected: three gauges of one page are
//! wanted, whatever else stands on it, so a line that is not one of them is
//! skipped unread.

use std::collections::BTreeMap;

use super::Report;

#[derive(Clone, Copy)]
enum Gauge {
    Waiting,
    Running,
    KvUsage,
}

/// The names of vLLM (old and new), SGLang and TensorRT-LLM.
const GAUGES: &[(&str, Gauge)] = &[
    ("vllm:num_requests_waiting", Gauge::Waiting),
    ("vllm:num_requests_running", Gauge::Running),
    ("vllm:kv_cache_usage_perc", Gauge::KvUsage),
    ("vllm:gpu_cache_usage_perc", Gauge::KvUsage),
    ("sglang:num_queue_reqs", Gauge::Waiting),
    ("sglang:num_running_reqs", Gauge::Running),
    ("sglang:token_usage", Gauge::KvUsage),
    ("trtllm_num_requests_waiting", Gauge::Waiting),
    ("trtllm_num_requests_running", Gauge::Running),
    ("trtllm_kv_cache_utilization", Gauge::KvUsage),
];

/// The labels that name a rank: vLLM's, and SGLang's.
const RANKS: [&str; 2] = ["engine", "dp_rank"];

#[derive(Clone, Copy, Debug, Default)]
struct Engine {
    waiting: Option<f64>,
    running: Option<f64>,
    kv_usage: Option<f64>,
}

/// The gauges of a page by rank; pages without a label for it are of rank 0.
pub(super) fn read(page: &str) -> BTreeMap<u32, Report> {
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
    // SGLang repeats its counts by priority beside the whole.
    if label(labels, "priority").is_some_and(|priority| !priority.is_empty()) {
        return None;
    }
    let named = RANKS.iter().find_map(|name| label(labels, name)).filter(|rank| !rank.is_empty());
    let rank = named.map_or(Some(0), |rank| rank.parse().ok())?;
    (value.is_finite() && value >= 0.0).then_some((gauge, rank, value))
}

/// The value of a label, up to its first quote: no rank or priority has one inside.
pub(super) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.match_indices(name).find_map(|(at, _)| {
        let (before, rest) = labels.split_at(at);
        let value = rest.get(name.len()..)?.strip_prefix("=\"")?;
        let begins = before.is_empty() || before.ends_with([',', ' ']);
        value.split('"').next().filter(|_| begins)
    })
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
    fn a_page_of_sglang_is_read_by_rank_and_without_its_priorities() {
        let page = "sglang:num_running_reqs{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\"} 4.0\n\
            sglang:num_queue_reqs{engine_type=\"unified\",model_name=\"m\",priority=\"\",tp_rank=\"0\"} 3.0\n\
            sglang:num_queue_reqs{engine_type=\"unified\",model_name=\"m\",priority=\"7\",tp_rank=\"0\"} 1.0\n\
            sglang:num_grammar_queue_reqs{model_name=\"m\"} 9.0\n\
            sglang:token_usage{model_name=\"m\",tp_rank=\"0\"} 0.25\n\
            sglang:num_running_reqs{dp_rank=\"1\",model_name=\"m\"} 2\n\
            sglang:num_queue_reqs{dp_rank=\"1\",model_name=\"m\"} 1\n";
        let read = read(page);
        assert_eq!(read[&0], Report { waiting: 3.0, running: Some(4.0), kv_usage: 0.25 });
        assert_eq!(read[&1], Report { waiting: 1.0, running: Some(2.0), kv_usage: 0.0 });
    }

    #[test]
    fn a_page_of_tensorrt_llm_is_read() {
        let page = "trtllm_num_requests_waiting{engine_type=\"trtllm\",model_name=\"m\"} 5.0\n\
            trtllm_num_requests_running{engine_type=\"trtllm\",model_name=\"m\"} 8.0\n\
            trtllm_kv_cache_utilization{engine_type=\"trtllm\",model_name=\"m\"} 0.75\n\
            trtllm_kv_cache_hit_rate{engine_type=\"trtllm\",model_name=\"m\"} 0.5\n";
        assert_eq!(read(page)[&0], Report { waiting: 5.0, running: Some(8.0), kv_usage: 0.75 });
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
}
