//! Who measures when, the medians, and what is printed.

use anyhow::Result;
use serde::Serialize;

use crate::Arguments;
use crate::child::{self, Task};
use crate::engine::Kind;
use crate::measure::{Figures, Part, Reads};

const WORKERS: usize = 8;
const BLOCKS: usize = 1_600_000;

/// Everything that one run of the benchmark printed.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The trace's file, or that it was generated.
    trace: String,
    rounds: u16,
    indexes: Vec<Entry>,
    /// Ours by the best of Dynamo's; at most 1 is better.
    ratios: Option<Ratios>,
    growth: Vec<Grown>,
}

#[derive(Serialize)]
struct Entry {
    index: &'static str,
    #[serde(skip)]
    kind: Kind,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct Ratios {
    write: f64,
    find_p50: f64,
    find_p99: f64,
    find_ns_per_block: f64,
    bytes_to_radix_tree: Option<f64>,
    /// Ours beside a writer by ours without.
    reader_p99_loaded_to_quiet: Option<f64>,
}

#[derive(Serialize)]
struct Grown {
    index: &'static str,
    blocks: usize,
    workers: usize,
    #[serde(flatten)]
    figures: Figures,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (values[even / 2 - 1] + values[even / 2]) / 2.0,
        odd => values[odd / 2],
    }
}

/// The median of each figure by itself; counts are the same in all runs.
fn medians(runs: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure).collect());
    let reads = |which: fn(&Figures) -> Option<Reads>| {
        let reads: Vec<Reads> = runs.iter().filter_map(which).collect();
        let of = |figure: fn(&Reads) -> f64| median(reads.iter().map(figure).collect());
        (!reads.is_empty()).then(|| Reads {
            p50_us: of(|reads| reads.p50_us),
            p99_us: of(|reads| reads.p99_us),
            p999_us: of(|reads| reads.p999_us),
            per_second: of(|reads| reads.per_second),
            written_blocks_per_second: of(|reads| reads.written_blocks_per_second),
        })
    };
    Figures {
        write_ns_per_block: of(|figures| figures.write_ns_per_block),
        find_p50_us: of(|figures| figures.find_p50_us),
        find_p99_us: of(|figures| figures.find_p99_us),
        find_ns_per_block: of(|figures| figures.find_ns_per_block),
        quiet: reads(|figures| figures.quiet),
        loaded: reads(|figures| figures.loaded),
        ..runs.first().cloned().unwrap_or_default()
    }
}

impl Report {
    pub(crate) fn measure(arguments: &Arguments) -> Result<Self> {
        let mut kinds = arguments.indexes.clone();
        if kinds.is_empty() {
            kinds = Kind::ALL.to_vec();
        }
        let task = |kind, part| Task { kind, part, workers: WORKERS, blocks: BLOCKS };
        let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); kinds.len()];
        for round in 1..=arguments.rounds {
            for (runs, &kind) in runs.iter_mut().zip(&kinds) {
                eprintln!("round {round} of {}: {}", arguments.rounds, kind.name());
                runs.push(child::ask(task(kind, Part::Trace), arguments)?);
            }
        }
        let mut indexes = Vec::new();
        for (runs, &kind) in runs.iter().zip(&kinds) {
            eprintln!("heap and answers: {}", kind.name());
            let checked = child::ask(task(kind, Part::Check), arguments)?;
            let figures = Figures {
                bytes_per_holder_block: checked.bytes_per_holder_block,
                wrong_answers: checked.wrong_answers,
                ..medians(runs)
            };
            indexes.push(Entry { index: kind.name(), kind, figures });
        }
        let growth = if arguments.growth { grow(&kinds, arguments)? } else { Vec::new() };
        let trace = match &arguments.trace {
            Some(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => "generated".to_owned(),
        };
        let ratios = ratios(&indexes);
        Ok(Self { trace, rounds: arguments.rounds, indexes, ratios, growth })
    }

    pub(crate) fn print(&self) {
        if let Some(Entry { figures, .. }) = self.indexes.first() {
            println!(
                "{}: {} requests of {} blocks; {} blocks stored, {} removed, {} held; medians of {}",
                self.trace,
                figures.requests,
                figures.queried_blocks,
                figures.stored_blocks,
                figures.removed_blocks,
                figures.holder_blocks,
                self.rounds
            );
        }
        println!(
            "{:<30} {:>9} {:>8} {:>8} {:>9} {:>8} {:>7}",
            "", "write", "find p50", "find p99", "find", "heap", "wrong"
        );
        println!(
            "{:<30} {:>9} {:>8} {:>8} {:>9} {:>8} {:>7}",
            "", "ns/block", "us", "us", "ns/block", "B/block", "answers"
        );
        for Entry { index, figures, .. } in &self.indexes {
            println!(
                "{index:<30} {:>9.1} {:>8.2} {:>8.2} {:>9.2} {:>8.1} {:>7}",
                figures.write_ns_per_block,
                figures.find_p50_us,
                figures.find_p99_us,
                figures.find_ns_per_block,
                figures.bytes_per_holder_block.unwrap_or(f64::NAN),
                figures.wrong_answers.unwrap_or(0)
            );
        }
        if let Some(ratios) = &self.ratios {
            println!(
                "{:<30} {:>9.2} {:>8.2} {:>8.2} {:>9.2} {:>8.2}   (heap: by RadixTree's)",
                "ours by the best of Dynamo's",
                ratios.write,
                ratios.find_p50,
                ratios.find_p99,
                ratios.find_ns_per_block,
                ratios.bytes_to_radix_tree.unwrap_or(f64::NAN)
            );
        }
        self.print_readers();
        self.print_growth();
    }

    fn print_readers(&self) {
        println!();
        println!(
            "one reader                        p50 us   p99 us p99.9 us  M reads/s  M blocks/s written"
        );
        for Entry { index, figures, kind } in &self.indexes {
            let reads = [("", figures.quiet), (" + writer", figures.loaded)];
            for (writer, reads) in reads.into_iter().filter(|_| kind.shared()) {
                let Some(reads) = reads else { continue };
                println!(
                    "{:<32} {:>7.2} {:>8.2} {:>8.2} {:>10.2} {:>11.1}",
                    format!("{}{writer}", if writer.is_empty() { index } else { "" }),
                    reads.p50_us,
                    reads.p99_us,
                    reads.p999_us,
                    reads.per_second / 1e6,
                    reads.written_blocks_per_second / 1e6
                );
            }
        }
        if let Some(ratio) =
            self.ratios.as_ref().and_then(|ratios| ratios.reader_p99_loaded_to_quiet)
        {
            println!("ours: p99 beside a writer by p99 without: {ratio:.2}");
        }
    }

    fn print_growth(&self) {
        if self.growth.is_empty() {
            return;
        }
        println!();
        println!(
            "growth (generated)                 blocks workers   write find p50 find p99     heap"
        );
        for Grown { index, blocks, workers, figures } in &self.growth {
            println!(
                "{index:<30} {blocks:>10} {workers:>7} {:>7.1} {:>8.2} {:>8.2} {:>8.1}",
                figures.write_ns_per_block,
                figures.find_p50_us,
                figures.find_p99_us,
                figures.bytes_per_holder_block.unwrap_or(f64::NAN)
            );
        }
    }
}

fn ratios(indexes: &[Entry]) -> Option<Ratios> {
    let ours = &indexes.iter().find(|entry| entry.kind == Kind::Warmpath)?.figures;
    let theirs: Vec<&Figures> = indexes
        .iter()
        .filter(|entry| entry.kind != Kind::Warmpath)
        .map(|entry| &entry.figures)
        .collect();
    if theirs.is_empty() {
        return None;
    }
    let by_best = |figure: fn(&Figures) -> f64| {
        figure(ours) / theirs.iter().map(|figures| figure(figures)).fold(f64::INFINITY, f64::min)
    };
    let tree = indexes.iter().find(|entry| entry.kind == Kind::RadixTree);
    Some(Ratios {
        write: by_best(|figures| figures.write_ns_per_block),
        find_p50: by_best(|figures| figures.find_p50_us),
        find_p99: by_best(|figures| figures.find_p99_us),
        find_ns_per_block: by_best(|figures| figures.find_ns_per_block),
        bytes_to_radix_tree: tree.and_then(|tree| {
            Some(ours.bytes_per_holder_block? / tree.figures.bytes_per_holder_block?)
        }),
        reader_p99_loaded_to_quiet: ours
            .loaded
            .zip(ours.quiet)
            .map(|(loaded, quiet)| loaded.p99_us / quiet.p99_us),
    })
}

/// Blocks over eight workers, and workers over ten million blocks.
fn grow(kinds: &[Kind], arguments: &Arguments) -> Result<Vec<Grown>> {
    let mut sizes: Vec<(usize, usize)> = vec![
        (100_000, 8),
        (1_000_000, 8),
        (10_000_000, 8),
        (10_000_000, 64),
        (10_000_000, 512),
        (10_000_000, 4_096),
    ];
    if arguments.huge {
        sizes.push((100_000_000, 8));
    }
    let mut growth = Vec::new();
    for (blocks, workers) in sizes {
        for &kind in kinds {
            eprintln!("{} with {blocks} blocks of {workers} workers", kind.name());
            let task = |part| Task { kind, part, workers, blocks };
            let heap = child::ask(task(Part::GrownHeap), arguments)?.bytes_per_holder_block;
            let figures = Figures {
                bytes_per_holder_block: heap,
                ..child::ask(task(Part::Growth), arguments)?
            };
            growth.push(Grown { index: kind.name(), blocks, workers, figures });
        }
    }
    Ok(growth)
}
