//! `cargo xtask bench prompt --in-envoy`: prompts in the VM that they are made for.
//!
//! A build of the filter that times itself (its feature `bench`) runs in a real Envoy,
//! with the tables that the indexer gives it. Its clock is the wall's: each figure is
//! the least of several requests, since a busy machine only ever adds.

#[path = "../../../benches/prompt/src/bodies.rs"]
mod bodies;
#[path = "../../../benches/prompt/src/texts.rs"]
mod texts;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;
use warmpath_testbed::build::{self, Module};
use warmpath_testbed::stack::{Stack, StackOptions, tiny_model};

use crate::output;

/// Sizes of texts, and how many of each are seen.
const SIZES: [(usize, usize); 4] = [(1 << 10, 24), (8 << 10, 12), (64 << 10, 6), (512 << 10, 1)];
/// Text that the VM sees first.
const WARM_UP: usize = 192 << 10;
/// What the filter's cache may take, and what it does at a time.
const CACHE: usize = 4 << 20;
const SLICE: usize = 32 << 10;
/// How often what may be repeated is.
const RUNS: usize = 5;

/// One tokenizer's figures.
#[derive(Serialize)]
struct Report {
    tokenizer: String,
    /// The longest callback that took in a part of the model's files.
    longest_load_ms: f64,
    /// All of them.
    load_ms: f64,
    memory_mb: f64,
    texts: Vec<Texts>,
    hard: Vec<Hard>,
    bodies: Vec<Body>,
    second_to_first: f64,
}

#[derive(Serialize)]
struct Texts {
    kind: &'static str,
    bytes: usize,
    /// The least of all texts seen once.
    cold_us: f64,
    cold_mb_per_s: f64,
    /// The least of the same text again.
    warm_us: f64,
    warm_mb_per_s: f64,
}

#[derive(Serialize)]
struct Hard {
    name: &'static str,
    ms: f64,
    by_prose: f64,
}

#[derive(Serialize)]
struct Body {
    name: String,
    tokens: u64,
    reused_tokens: u64,
    read_us: f64,
    render_us: f64,
    encode_us: f64,
    whole_us: f64,
    slices: usize,
    longest_us: f64,
}

/// The filter's answer, see `filter/src/bench.rs`.
#[derive(Deserialize)]
struct Timings {
    memory_bytes: usize,
    load_ns: Vec<u64>,
    runs: Vec<Run>,
}

#[derive(Clone, Deserialize)]
struct Run {
    read_ns: u64,
    begin_ns: u64,
    advance_ns: u64,
    longest_ns: u64,
    slices: usize,
    tokens: u64,
    reused_tokens: u64,
}

impl Run {
    fn whole(&self) -> u64 {
        self.read_ns + self.begin_ns + self.advance_ns
    }
}

/// Measures each of these folders' tokenizers, or the tests' small one.
pub(crate) async fn run(tokenizers: &[PathBuf], json: bool) -> Result<()> {
    let tiny = [tiny_model()];
    let tokenizers = if tokenizers.is_empty() { &tiny[..] } else { tokenizers };
    let kinds = texts::kinds(build::workspace_root());
    let mut reports = Vec::new();
    for folder in tokenizers {
        let report = measure(folder, &kinds).await?;
        report.print();
        reports.push(report);
    }
    if json {
        output::json(&json!({ "envoy": reports }))?;
    }
    Ok(())
}

async fn measure(tokenizer: &Path, kinds: &[(&'static str, String)]) -> Result<Report> {
    let name = tokenizer.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scratch = TempDir::new().context("can not make a temporary folder")?;
    complete(tokenizer, scratch.path())?;
    let mut options = StackOptions::default();
    options.gateway.module = Module::Bench;
    options.gateway.indexer.model_path = Some(scratch.path().to_owned());
    let step = output::step(&format!("starting Envoy with the tokenizer of {name}"));
    let stack = Stack::start_edited(options, |_| Ok(())).await?;
    stack.gateway.wait_loaded(1).await?;
    step.done();
    let vm = Vm { client: stack.gateway.client(), model: stack.gateway.model.clone() };

    let of = |name| kinds.iter().find(|(kind, _)| *kind == name).map_or("", |(_, text)| text);
    let mut report_texts = Vec::new();
    for (kind, text) in kinds {
        vm.of_kind(kind, text, &mut report_texts).await?;
    }
    let mut hard: Vec<Hard> = Vec::new();
    for (name, text) in texts::hard(of("prose")) {
        let least = vm.least(&text, RUNS).await?;
        let ms = least.advance_ns as f64 / 1e6;
        let prose = hard.first().map_or(ms, |prose| prose.ms);
        hard.push(Hard { name, ms, by_prose: ms / prose });
    }
    let made = bodies::bodies(of("chat"));
    let mut measured = Vec::new();
    for chat in &made.chats {
        let (first, _) = vm.chat(&chat.first, "", RUNS).await?;
        let (second, _) = vm.chat(&chat.second, &chat.first, RUNS).await?;
        measured.push((chat.kind, first, second));
    }
    // What runs for the first time is slow for reasons of its own.
    measured.remove(0);
    let (long, timings) = vm.chat(&made.long, "", RUNS).await?;
    Ok(Report {
        tokenizer: name,
        longest_load_ms: timings.load_ns.iter().max().map_or(0.0, |&longest| longest as f64 / 1e6),
        load_ms: timings.load_ns.iter().sum::<u64>() as f64 / 1e6,
        memory_mb: timings.memory_bytes as f64 / 1e6,
        texts: report_texts,
        hard,
        second_to_first: measured
            .first()
            .map_or(0.0, |(_, first, second)| second.whole() as f64 / first.whole() as f64),
        bodies: measured
            .iter()
            .flat_map(|(kind, first, second)| {
                [("first", first), ("second", second)]
                    .map(|(turn, run)| Body::of(format!("{turn} turn {kind}"), run))
            })
            .chain([Body::of("long".to_owned(), &long)])
            .collect(),
    })
}

/// Links to the files of a model's folder, with a chat template where it has none.
fn complete(tokenizer: &Path, folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(tokenizer)
        .with_context(|| format!("can not read {}", tokenizer.display()))?;
    for entry in entries {
        let path = entry?.path().canonicalize()?;
        std::os::unix::fs::symlink(&path, folder.join(path.file_name().unwrap_or_default()))?;
    }
    let template = "chat_template.jinja";
    if !folder.join(template).exists() {
        let json = std::fs::read_to_string(folder.join("tokenizer.json"))?;
        let other = build::workspace_root().join(bodies::template(&json));
        std::fs::copy(other, folder.join(template))?;
    }
    Ok(())
}

struct Vm {
    client: warmpath_testbed::Client,
    model: String,
}

impl Vm {
    async fn ask(&self, path: &str, query: &str, body: String) -> Result<Timings> {
        let path = format!("/warmpath/bench{path}?model={}&{query}", self.model);
        let reply = self.client.send_bytes(&path, body.into(), &[]).await?;
        ensure!(reply.status == 200, "the filter answers {}: {}", reply.status, reply.text);
        serde_json::from_str(&reply.text).context("the filter answers something else")
    }

    /// Text as the prompt of a completion; nothing is cached but what the encoder keeps.
    async fn text(&self, text: &str, runs: usize) -> Result<Timings> {
        let body = json!({"model": self.model, "prompt": text}).to_string();
        self.ask("/v1/completions", &format!("runs={runs}"), body).await
    }

    async fn least(&self, text: &str, runs: usize) -> Result<Run> {
        let timings = self.text(text, runs).await?;
        timings.runs.into_iter().min_by_key(|run| run.advance_ns).context("no runs")
    }

    /// A chat in an empty cache, or one that has seen `before`.
    async fn chat(&self, body: &str, before: &str, runs: usize) -> Result<(Run, Timings)> {
        let query =
            format!("runs={runs}&cache={CACHE}&slice={SLICE}&chunk={SLICE}&prime={}", before.len());
        let timings = self.ask("/v1/chat/completions", &query, format!("{before}{body}")).await?;
        let least = timings.runs.iter().min_by_key(|run| run.whole()).context("no runs")?;
        Ok((least.clone(), timings))
    }

    async fn of_kind(&self, kind: &'static str, text: &str, into: &mut Vec<Texts>) -> Result<()> {
        let (warm_up, mut rest) = cut(text, WARM_UP);
        self.text(warm_up, 1).await?;
        for (bytes, count) in SIZES {
            let (mut cold, mut warm) = (u64::MAX, u64::MAX);
            for _ in 0..count {
                let (text, more) = cut(rest, bytes);
                if text.len() < bytes {
                    break;
                }
                rest = more;
                // The first run is the first time that the VM sees it.
                let runs = self.text(text, 3).await?.runs;
                let times: Vec<u64> = runs.iter().map(|run| run.advance_ns).collect();
                cold = cold.min(times.first().copied().unwrap_or(u64::MAX));
                warm = times.iter().skip(1).copied().fold(warm, u64::min);
            }
            let speed = |ns: u64| bytes as f64 * 1e3 / ns as f64;
            into.push(Texts {
                kind,
                bytes,
                cold_us: cold as f64 / 1e3,
                cold_mb_per_s: speed(cold),
                warm_us: warm as f64 / 1e3,
                warm_mb_per_s: speed(warm),
            });
        }
        Ok(())
    }
}

/// The first `bytes` of a text, and a little more where a character needs it.
fn cut(text: &str, bytes: usize) -> (&str, &str) {
    let mut at = bytes.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    text.split_at(at)
}

impl Body {
    fn of(name: String, run: &Run) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            name,
            tokens: run.tokens,
            reused_tokens: run.reused_tokens,
            read_us: us(run.read_ns),
            render_us: us(run.begin_ns),
            encode_us: us(run.advance_ns),
            whole_us: us(run.whole()),
            slices: run.slices,
            longest_us: us(run.longest_ns),
        }
    }
}

impl Report {
    fn print(&self) {
        println!("== {} in Envoy's V8", self.tokenizer);
        println!(
            "loaded in {:.2} ms, the longest callback {:.2} ms; the VM takes {:.1} MB at the end",
            self.load_ms, self.longest_load_ms, self.memory_mb
        );
        println!(
            "{:<8} {:>7} {:>10} {:>10} {:>10} {:>10}",
            "", "bytes", "cold MB/s", "warm MB/s", "cold us", "warm us"
        );
        for texts in &self.texts {
            println!(
                "{:<8} {:>7} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
                texts.kind,
                texts.bytes,
                texts.cold_mb_per_s,
                texts.warm_mb_per_s,
                texts.cold_us,
                texts.warm_us
            );
        }
        for hard in &self.hard {
            println!("{:<16} {:>8.2} ms  {:>5.2} x prose", hard.name, hard.ms, hard.by_prose);
        }
        for body in &self.bodies {
            println!(
                "{:<18} {:>7} tokens, {:>6} reused: read {:.0} us, render {:.0}, encode and hash {:.0}, \
                 in all {:.0}; {} slices, longest step {:.0}",
                body.name,
                body.tokens,
                body.reused_tokens,
                body.read_us,
                body.render_us,
                body.encode_us,
                body.whole_us,
                body.slices,
                body.longest_us
            );
        }
        println!("second turn by first: {:.3}\n", self.second_to_first);
    }
}
