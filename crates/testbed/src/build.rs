//! Building what the stack runs: the wasm module and our own binaries.
//!
//! Cargo is asked each time and is quick when nothing changed; a path guessed
//! from an earlier build could name a stale file. Within one process it is
//! asked once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The target of the filter.
pub const WASM_TARGET: &str = "wasm32-wasip1";

/// The later flag wins, and this one comes behind those of .cargo/config.toml.
const SCALAR_FLAGS: &str = "target.wasm32-wasip1.rustflags=[\"-Ctarget-feature=-simd128\"]";

/// Which filter module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// The one that is released.
    Simd,
    /// For hosts without SIMD.
    Scalar,
    /// Answers with its own speed; never released.
    Bench,
}

/// How our binaries are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build: tests and the demo.
    Dev,
    /// What `cargo xtask dist` ships.
    Release,
}

/// The root of the repository.
pub fn workspace_root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).unwrap_or(here).to_owned()
    })
}

/// Where cargo puts what it builds; absolute, `CARGO_TARGET_DIR` respected.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) if !folder.is_empty() => workspace_root().join(folder),
        _ => workspace_root().join("target"),
    }
}

/// The folder for what we fetch and log, below the target directory.
pub fn scratch_dir(name: &str) -> Result<PathBuf> {
    let folder = target_dir().join("warmpath").join(name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("can not make the folder {}", folder.display()))?;
    Ok(folder)
}

/// A cargo command for this workspace.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace_root()).env("CARGO_TARGET_DIR", target_dir());
    command
}

/// The compiled filter module.
pub fn filter_wasm(module: Module) -> Result<PathBuf> {
    static SIMD: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static SCALAR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static BENCH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let (built, profile, more): (_, _, &[&str]) = match module {
        Module::Simd => (&SIMD, "wasm", &[]),
        Module::Scalar => (&SCALAR, "wasm-scalar", &["--config", SCALAR_FLAGS]),
        Module::Bench => (&BENCH, "wasm-bench", &["--features", "bench"]),
    };
    once(built, || {
        add_wasm_target()?;
        let arguments = ["build", "--quiet", "--package", "warmpath-filter", "--lib"];
        let target = ["--profile", profile, "--target", WASM_TARGET];
        succeed(cargo().args(arguments).args(target).args(more), "building the filter")?;
        existing(target_dir().join(WASM_TARGET).join(profile).join("warmpath_filter.wasm"))
    })
}

/// The indexer's binary.
pub fn indexer(profile: Profile) -> Result<PathBuf> {
    static DEV: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static RELEASE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = if profile == Profile::Dev { &DEV } else { &RELEASE };
    once(built, || binary("warmpath-indexer", profile))
}

/// The simulated engine's binary.
pub fn simworker() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, || binary("warmpath-simworker", Profile::Dev))
}

/// Adds the wasm target to the toolchain where it is missing.
///
/// rustup installs what rust-toolchain.toml names only where it may install
/// on its own; a new machine's first build would otherwise fail on `core`.
pub fn add_wasm_target() -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]).current_dir(workspace_root());
    let output = rustc.output().context("can not run rustc; install Rust with rustup")?;
    if !output.status.success() {
        bail!("rustc --print sysroot failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if sysroot.join("lib/rustlib").join(WASM_TARGET).join("lib").is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", WASM_TARGET]).current_dir(workspace_root());
    succeed(&mut rustup, "adding the wasm target").with_context(|| {
        format!(
            "the toolchain lacks {WASM_TARGET}; install it with: rustup target add {WASM_TARGET}"
        )
    })
}

fn binary(name: &str, profile: Profile) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", name, "--bin", name]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    succeed(&mut command, name)?;
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    existing(target_dir().join(folder).join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs a command, its output going where ours goes.
pub fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{what}: can not run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{what}: {command:?} ended with {status}");
    }
    Ok(())
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("cargo built no {}", path.display());
    }
    Ok(path)
}

fn once(
    built: &OnceLock<Result<PathBuf, String>>,
    build: impl FnOnce() -> Result<PathBuf>,
) -> Result<PathBuf> {
    let built = built.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}
