//! Measuring processes: this program, natively or in node's V8.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::engines::Engine;
use crate::folder::repository;
use crate::measure::Figures;

/// Where a measuring process runs.
pub(crate) enum Machine {
    /// This machine's own code.
    Native,
    /// node, with this program compiled to wasm.
    V8(PathBuf),
}

const RUNNER: &str = include_str!("../run.mjs");

/// Has another process measure.
pub(crate) fn ask(machine: &Machine, engine: Engine, folder: &Path) -> Result<Figures> {
    let mut command = match machine {
        Machine::Native => {
            let this = std::env::current_exe().context("can not find this program")?;
            let mut command = Command::new(this);
            command.args(["measure", engine.name()]).arg(folder);
            command
        }
        Machine::V8(module) => {
            let runner = folder.join("run.mjs");
            std::fs::write(&runner, RUNNER)?;
            let mut command = Command::new("node");
            // As Envoy compiles what it runs.
            command.args(["--no-liftoff", "--no-warnings"]).arg(runner).arg(module);
            command.args(["measure", engine.name()]).arg(folder);
            command
        }
    };
    // One thread each: a gateway's core has other requests to serve.
    command.env("RAYON_NUM_THREADS", "1");
    let output =
        command.stderr(Stdio::inherit()).output().context("can not start a measurement")?;
    // node may fall over on its way out, after everything has been said.
    let said = matches!(machine, Machine::V8(_)) && !output.stdout.is_empty();
    ensure!(output.status.success() || said, "measuring {engine} failed: {}", output.status);
    let mut lines = output.stdout.split(|&byte| byte == b'\n');
    let mut figures: Figures = serde_json::from_slice(lines.next().unwrap_or_default())
        .context("a measurement printed something else")?;
    // What it takes beyond its own words comes from who ran it.
    if let Some(bytes) =
        lines.next().and_then(|line| std::str::from_utf8(line).ok()?.parse::<f64>().ok())
    {
        figures.memory_mb = bytes / 1e6;
    }
    Ok(figures)
}

/// node and the module, where node is there.
pub(crate) fn v8() -> Result<Option<Machine>> {
    let there = Command::new("node").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("node is not installed: nothing is measured in V8");
        return Ok(None);
    }
    let folder = repository().join("benches/prompt");
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => folder.join("target"),
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--profile", "wasm", "--target", "wasm32-wasip1", "--quiet"]);
    command.arg("--manifest-path").arg(folder.join("Cargo.toml"));
    // The repository's .cargo/config.toml has the flags of the filter.
    command.current_dir(&folder).env("CARGO_TARGET_DIR", &target);
    ensure!(command.status()?.success(), "building the benchmark for wasm failed");
    let module = target.join("wasm32-wasip1/wasm/warmpath-bench-prompt.wasm");
    ensure!(module.is_file(), "cargo built no {}", module.display());
    Ok(Some(Machine::V8(module)))
}
