//! `cargo xtask fuzz`: the fuzzers, one after the other, for some time each.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use warmpath_testbed::build;

use crate::output;

/// The bins of `fuzz/Cargo.toml`.
const TARGETS: [&str; 8] =
    ["body", "template", "table", "index", "snapshot", "events", "polled", "protocol"];

/// What one input may take. The first one makes the tests' model, with overflow checks
/// on and perhaps on a busy machine; a loop without end is longer.
const SECONDS_PER_INPUT: u32 = 120;
/// What a process may take; more than the largest table needs many times over.
const MEBIBYTES: u32 = 3072;

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which targets; all where absent
    #[arg(value_parser = PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Watch memory accesses as well: slower, and there is no unsafe code of ours
    #[arg(long)]
    address_sanitizer: bool,
    /// Print what passed as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    seconds_each: u32,
    passed: Vec<String>,
    failed: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut targets = arguments.targets.clone();
    if targets.is_empty() {
        targets = TARGETS.map(str::to_owned).to_vec();
    }
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for target in targets {
        let step = output::step(&format!("— fuzzing {target}"));
        let corpus = build::workspace_root().join("fuzz/corpus").join(&target);
        std::fs::create_dir_all(&corpus).context("can not make a folder for the corpus")?;
        let status = command(arguments, &target, &corpus)
            .status()
            .context("can not run cargo; install Rust with rustup")?;
        step.done();
        if status.success() { &mut passed } else { &mut failed }.push(target);
    }
    for target in &passed {
        println!("nothing found  {target}");
    }
    for target in &failed {
        println!("FAILED         {target}");
    }
    if arguments.json {
        let seconds_each = arguments.seconds;
        output::json(&Report { seconds_each, passed, failed: failed.clone() })?;
    }
    if !failed.is_empty() {
        bail!(
            "a fuzzer found something, see fuzz/artifacts, or could not run: it needs the nightly \
             toolchain and cargo install --locked cargo-fuzz"
        );
    }
    Ok(())
}

fn command(arguments: &Arguments, target: &str, corpus: &Path) -> Command {
    // Through rustup's cargo: the one that runs this task is of another toolchain.
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz", "run", target]);
    command.current_dir(build::workspace_root());
    // The toolchain that runs this task must not reach the one below it.
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command.env("CARGO_TARGET_DIR", build::target_dir().join("fuzz"));
    if !arguments.address_sanitizer {
        command.args(["--sanitizer", "none"]);
    }
    let fuzz = build::workspace_root().join("fuzz");
    // libFuzzer writes to the first folder and only reads the second.
    command.arg(corpus).arg(fuzz.join("seeds").join(target)).arg("--");
    command.args([
        format!("-max_total_time={}", arguments.seconds),
        format!("-timeout={SECONDS_PER_INPUT}"),
        format!("-rss_limit_mb={MEBIBYTES}"),
        "-print_final_stats=1".to_owned(),
    ]);
    command
}
