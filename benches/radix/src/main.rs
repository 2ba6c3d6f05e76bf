/*!
The prefix index beside dynamo-kv-router's three.

All are given the same requests: a lookup of each, and the blocks that its worker
then stores and evicts. Eight workers of 200,000 blocks of 16 tokens take the
requests of a trace in turn; each evicts the least recently used block, tail first,
and computes that outside the measured time. Each measurement is a process of its
own; processes of different indexes take turns, and medians are reported.

Run it with `cargo xtask bench radix`; docs/benchmarks.md says what the columns mean.
*/

mod cache;
mod child;
mod dynamo;
mod engine;
mod heap;
mod measure;
mod ours;
mod report;
mod trace;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::engine::Kind;
use crate::measure::Part;
use crate::report::Report;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Measures the prefix index beside dynamo-kv-router's three
#[derive(Clone, Parser)]
#[command(name = "cargo xtask bench radix")]
struct Arguments {
    /// Requests as JSON lines with input_length and hash_ids; generated ones where absent
    #[arg(long, env = "WARMPATH_TRACE", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How many requests of it; all where absent (12,000 generated ones)
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
    /// Which indexes; all where absent
    #[arg(long = "index", value_enum, value_name = "NAME")]
    indexes: Vec<Kind>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Measure what growth costs as well: 10^5 to 10^7 blocks, 8 to 4,096 workers
    #[arg(long)]
    growth: bool,
    /// Grow to 10^8 blocks too; wants 16 GB of memory
    #[arg(long, requires = "growth")]
    huge: bool,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,

    /// Set where this process makes one measurement
    #[arg(long, hide = true)]
    part: Option<Part>,
    #[arg(long, hide = true, default_value_t = 8)]
    workers: usize,
    #[arg(long, hide = true, default_value_t = 1_600_000)]
    blocks: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(part) = arguments.part {
        let kind = arguments.indexes.first().copied().unwrap_or(Kind::Warmpath);
        let figures = child::measure(kind, part, &arguments)?;
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    let report = Report::measure(&arguments)?;
    report.print();
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}
