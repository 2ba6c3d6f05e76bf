/*!
Token ids to block hashes, beside Dynamo's function of the same result.

Run it with `cargo xtask bench blocks`. The two take turns on the same tokens, on one thread;
medians are reported, and a difference in any hash is an error.
*/

use std::hint::black_box;

use anyhow::{Result, ensure};
use clap::Parser;
use dynamo_kv_router::protocols::{
    BlockHashOptions, compute_block_hash_for_seq, compute_seq_hash_for_block,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Tokens of a prompt.
const TOKENS: usize = 16_384;
/// Times that a prompt is hashed in one measurement.
const TIMES: usize = 200;

/// Measures token ids to block hashes beside Dynamo's function
#[derive(Parser)]
#[command(name = "cargo xtask bench blocks")]
struct Arguments {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    block_size: usize,
    /// Million tokens a second.
    local_hashes: f64,
    dynamos: f64,
    /// The time of ours by that of Dynamo's.
    local_ratio: f64,
    sequence_ratio: f64,
}

/// Processor time of this thread: what a shared machine gives to others does not count.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn nanoseconds<T>(work: impl Fn() -> T) -> f64 {
    let start = cpu();
    for _ in 0..TIMES {
        black_box(work());
    }
    (cpu() - start) / TIMES as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(block_size: usize, rounds: u16) -> Result<Row> {
    let token = |at: u32| at.wrapping_mul(2_654_435_761) >> 15;
    let tokens: Vec<u32> = (0..TOKENS as u32).map(token).collect();
    let ours = || warmpath_blocks::local_hashes(&tokens, block_size, warmpath_blocks::SEED);
    let options = BlockHashOptions::default();
    let dynamos = || compute_block_hash_for_seq(&tokens, block_size as u32, options);
    let (local, theirs) = (ours(), dynamos());
    ensure!(local.iter().eq(theirs.iter().map(|hash| &hash.0)), "the local hashes differ");
    let chained = || warmpath_blocks::sequence_hashes(&local);
    let their_chained = || compute_seq_hash_for_block(&theirs);
    ensure!(chained() == their_chained(), "the sequence hashes differ");
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        times[0].push(nanoseconds(ours));
        times[1].push(nanoseconds(dynamos));
        times[2].push(nanoseconds(chained));
        times[3].push(nanoseconds(their_chained));
    }
    let [ours, dynamos, chained, their_chained] = times.map(median);
    Ok(Row {
        block_size,
        local_hashes: TOKENS as f64 * 1000.0 / ours,
        dynamos: TOKENS as f64 * 1000.0 / dynamos,
        local_ratio: ours / dynamos,
        sequence_ratio: chained / their_chained,
    })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("block size   M tokens/s   Dynamo's   time by Dynamo's   chaining, by Dynamo's");
    let mut rows = Vec::new();
    for block_size in [16, 32, 64, 128] {
        let row = row(block_size, arguments.rounds)?;
        let Row { local_hashes, dynamos, local_ratio, sequence_ratio, .. } = row;
        println!(
            "{block_size:>10} {local_hashes:>12.0} {dynamos:>10.0} {local_ratio:>18.2} {sequence_ratio:>23.2}"
        );
        rows.push(row);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&rows)?);
    }
    Ok(())
}
