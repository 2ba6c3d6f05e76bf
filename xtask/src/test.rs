//! `cargo xtask test`: what has to pass before anything is pushed.
//!
//! Cheap checks come first, so that most faults show within a minute. Each step
//! is a cargo command that can be run alone, and is printed as such.

use std::process::Command;

use anyhow::{Result, bail};
use serde::Serialize;
use warmpath_testbed::build::Module;
use warmpath_testbed::{build, envoy};

use crate::{output, python};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the steps and their seconds as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    steps: Vec<Step>,
    passed: bool,
    seconds: f64,
}

#[derive(Serialize)]
struct Step {
    name: &'static str,
    seconds: f64,
    passed: bool,
}

/// Name and arguments of each cargo step, in order.
const CHECKS: [(&str, &[&str]); 4] = [
    ("format", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    (
        "clippy for wasm",
        &[
            "clippy",
            "--package",
            "warmpath-filter",
            "--target",
            build::WASM_TARGET,
            "--",
            "-D",
            "warnings",
        ],
    ),
    ("documentation", &["doc", "--workspace", "--no-deps", "--quiet"]),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut steps = Vec::new();
    let mut all = true;
    let mut run = |name: &'static str, step: &mut dyn FnMut() -> Result<()>| {
        let started = output::step(&format!("— {name}"));
        let outcome = step();
        if let Err(error) = &outcome {
            eprintln!("{name} failed: {error:#}");
        }
        steps.push(Step { name, seconds: started.done(), passed: outcome.is_ok() });
        all &= outcome.is_ok();
        outcome.is_ok()
    };
    // Without these nothing else can run.
    if run("wasm target", &mut build::add_wasm_target) {
        for (name, arguments) in CHECKS {
            run(name, &mut || {
                let mut command = build::cargo();
                command.args(arguments).env("RUSTDOCFLAGS", "-D warnings");
                build::succeed(&mut command, name)
            });
        }
        run("dependencies", &mut deny);
        // Before the tests, so that none of them waits for a build or a download.
        let ready = run("Envoy", &mut || envoy::locate().map(drop))
            && run("wasm module", &mut || build::filter_wasm(Module::Simd).map(drop))
            && run("wasm module without SIMD", &mut || {
                build::filter_wasm(Module::Scalar).map(drop)
            })
            && run("indexer", &mut || build::indexer(build::Profile::Dev).map(drop))
            && run("simulated engine", &mut || build::simworker().map(drop));
        if ready {
            run("tests", &mut tests);
            run("end to end", &mut end_to_end);
            run("python package", &mut python::tests);
            run("documentation examples", &mut || {
                build::succeed(
                    build::cargo().args(["test", "--workspace", "--doc", "--quiet"]),
                    "doc tests",
                )
            });
        }
    }
    let seconds = steps.iter().map(|step| step.seconds).sum();
    for step in &steps {
        let verdict = if step.passed { "passed" } else { "FAILED" };
        println!("{verdict}  {:>7.1} s  {}", step.seconds, step.name);
    }
    println!("{}  {seconds:>7.1} s  in all", if all { "passed" } else { "FAILED" });
    if arguments.json {
        output::json(&Report { steps, passed: all, seconds })?;
    }
    if !all {
        bail!("not every step passed");
    }
    Ok(())
}

/// Licences, advisories and doubled dependencies, where cargo-deny is there.
fn deny() -> Result<()> {
    if !has("deny") {
        println!(
            "cargo-deny is not installed, skipped; install it with: cargo install --locked cargo-deny"
        );
        return Ok(());
    }
    // The advisories' database needs a network; the rest does not.
    let arguments = ["deny", "--workspace", "check", "bans", "licenses", "sources"];
    build::succeed(build::cargo().args(arguments), "cargo deny")
}

/// Everything but the end-to-end tests.
fn tests() -> Result<()> {
    let mut command = build::cargo();
    if has("nextest") {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        command.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]);
    }
    build::succeed(command.args(["--exclude", "warmpath-tests"]), "tests")
}

/// In one process, which asks cargo once for what the stacks are made of;
/// nextest would ask for each test.
fn end_to_end() -> Result<()> {
    build::succeed(build::cargo().args(["test", "--workspace", "--test", "e2e"]), "end to end")
}

/// Whether cargo has this subcommand.
fn has(subcommand: &str) -> bool {
    let mut command: Command = build::cargo();
    command.args([subcommand, "--version"]).output().is_ok_and(|output| output.status.success())
}
