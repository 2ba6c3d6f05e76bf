//! The medians, and what is printed.

use serde::Serialize;

use crate::engines::Engine;
use crate::folder::Made;
use crate::measure::{Figures, Hard, Texts};
use crate::turns::{Body, Turns};

/// Everything that one run of the benchmark printed.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) rounds: u16,
    pub(crate) models: Vec<Model>,
}

/// One tokenizer.json.
#[derive(Serialize)]
pub(crate) struct Model {
    tokenizer: String,
    compile_ms: f64,
    table_mb: Option<f64>,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    machine: &'static str,
    #[serde(rename = "engine")]
    name: &'static str,
    /// Texts whose ids are not those of Hugging Face's 0.23.
    differing: usize,
    #[serde(flatten)]
    figures: Figures,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(values[even / 2 - 1], values[even / 2]),
        odd => values[odd / 2],
    }
}

/// The median of each time by itself; the rest is the same in all runs.
fn medians(runs: &[Figures]) -> Figures {
    let Some(mut first) = runs.first().cloned() else { return Figures::default() };
    first.load_ms = median(runs.iter().map(|run| run.load_ms).collect());
    first.memory_mb = median(runs.iter().map(|run| run.memory_mb).collect());
    for (at, texts) in first.texts.iter_mut().enumerate() {
        let of = |figure: fn(&Texts) -> f64| {
            median(runs.iter().filter_map(|run| run.texts.get(at)).map(figure).collect())
        };
        texts.cold_us = of(|texts| texts.cold_us);
        texts.warm_us = of(|texts| texts.warm_us);
        texts.cold_mb_per_s = of(|texts| texts.cold_mb_per_s);
        texts.warm_mb_per_s = of(|texts| texts.warm_mb_per_s);
    }
    for (at, hard) in first.hard.iter_mut().enumerate() {
        let ms = runs.iter().filter_map(|run| run.hard.get(at)).map(|hard: &Hard| hard.ms);
        hard.ms = median(ms.collect());
    }
    if let Some(turns) = &mut first.turns {
        let all: Vec<&Turns> = runs.iter().filter_map(|run| run.turns.as_ref()).collect();
        turns.second_to_first = median(all.iter().map(|turns| turns.second_to_first).collect());
        for (at, body) in turns.bodies.iter_mut().enumerate() {
            let of = |figure: fn(&Body) -> f64| {
                median(all.iter().filter_map(|turns| turns.bodies.get(at)).map(figure).collect())
            };
            body.parse_us = of(|body| body.parse_us);
            body.hash_us = of(|body| body.hash_us);
            body.longest_slice_us = of(|body| body.longest_slice_us);
        }
    }
    first
}

fn digests(figures: &Figures) -> Vec<u64> {
    let texts = figures.texts.iter().map(|texts| texts.digest);
    texts.chain(figures.hard.iter().map(|hard| hard.digest)).collect()
}

impl Model {
    pub(crate) fn of(
        tokenizer: String,
        made: &Made,
        runs: &[(bool, Engine, Vec<Figures>)],
    ) -> Self {
        let reference = runs
            .iter()
            .find(|(_, engine, _)| *engine == Engine::HuggingFace)
            .and_then(|(_, _, runs)| runs.first())
            .map(digests);
        let entries = runs
            .iter()
            .map(|(in_v8, engine, runs)| {
                let figures = medians(runs);
                let differing = reference.as_ref().map_or(0, |reference| {
                    digests(&figures)
                        .iter()
                        .zip(reference)
                        .filter(|(one, other)| one != other)
                        .count()
                });
                let machine = if *in_v8 { "V8" } else { "native" };
                Entry { machine, name: engine.name(), differing, figures }
            })
            .collect();
        Self { tokenizer, compile_ms: made.compile_ms, table_mb: made.table_mb, entries }
    }
}

impl Report {
    pub(crate) fn print(&self) {
        for model in &self.models {
            model.print();
        }
    }
}

/// Columns of speed tables: kind and size.
fn columns(entry: &Entry) -> impl Iterator<Item = &Texts> {
    entry.figures.texts.iter()
}

fn size(bytes: usize) -> String {
    format!("{}K", bytes >> 10)
}

impl Model {
    fn print(&self) {
        println!("== {}", self.tokenizer);
        if let Some(table) = self.table_mb {
            println!("table {table:.2} MB, compiled in {:.0} ms", self.compile_ms);
        }
        println!("{:<28} {:>9} {:>10} {:>15}", "", "load ms", "memory MB", "differing ids");
        for entry in &self.entries {
            let figures = &entry.figures;
            match &figures.error {
                Some(error) => println!("{:<28} can not: {error}", entry.label()),
                None => println!(
                    "{:<28} {:>9.2} {:>10.1} {:>15}",
                    entry.label(),
                    figures.load_ms,
                    figures.memory_mb,
                    entry.differing
                ),
            }
        }
        self.speeds("cold", |texts| texts.cold_mb_per_s, |texts| texts.cold_us);
        self.speeds("warm", |texts| texts.warm_mb_per_s, |texts| texts.warm_us);
        self.hard();
        self.turns();
        println!();
    }

    fn sound(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.figures.error.is_none())
    }

    fn speeds(&self, what: &str, speed: fn(&Texts) -> f64, time: fn(&Texts) -> f64) {
        let Some(first) = self.sound().next() else { return };
        let mut kinds: Vec<&str> = columns(first).map(|texts| texts.kind.as_str()).collect();
        kinds.dedup();
        for (unit, figure) in [("MB/s", speed), ("us a text", time)] {
            println!("\n{what}, {unit}");
            print!("{:<28}", "");
            kinds.iter().for_each(|kind| print!(" {kind:>8} {:>8} {:>8} {:>8}", "", "", ""));
            print!("\n{:<28}", "");
            columns(first).for_each(|texts| print!(" {:>8}", size(texts.bytes)));
            println!();
            for entry in self.sound() {
                print!("{:<28}", entry.label());
                columns(entry).for_each(|texts| print!(" {:>8.1}", figure(texts)));
                println!();
            }
        }
    }

    fn hard(&self) {
        let Some(first) = self.sound().next() else { return };
        println!("\n512 KB of what is hard, ms (times the same of prose)");
        print!("{:<28}", "");
        first.figures.hard.iter().for_each(|hard| print!(" {:>14}", hard.name));
        println!();
        for entry in self.sound() {
            let prose = entry.figures.hard.iter().find(|hard| hard.name == "prose");
            let prose = prose.map_or(f64::NAN, |hard| hard.ms);
            print!("{:<28}", entry.label());
            for hard in &entry.figures.hard {
                print!(" {:>14}", format!("{:.1} ({:.1})", hard.ms, hard.ms / prose));
            }
            println!();
        }
    }

    fn turns(&self) {
        println!("\nfrom body to hashes, us");
        println!(
            "{:<28} {:<12} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>9}",
            "", "", "bytes", "tokens", "reused", "parse", "the rest", "slices", "longest"
        );
        for entry in self.sound() {
            let Some(turns) = &entry.figures.turns else { continue };
            for body in &turns.bodies {
                println!(
                    "{:<28} {:<12} {:>8} {:>8} {:>8} {:>9.0} {:>9.0} {:>7} {:>9.0}",
                    entry.label(),
                    body.name,
                    body.bytes,
                    body.tokens,
                    body.reused_tokens,
                    body.parse_us,
                    body.hash_us,
                    body.slices,
                    body.longest_slice_us
                );
            }
            println!("{:<28} second turn by first: {:.3}", entry.label(), turns.second_to_first);
        }
    }
}

impl Entry {
    fn label(&self) -> String {
        format!("{} {}", self.machine, self.name)
    }
}
