//! `cargo xtask bench`: what things cost, beside what others make.
//!
//! The benchmarks that need other people's crates are packages of their own under
//! `benches/`, outside the workspace: whoever builds Warmpath builds none of them.
//! `benches/routing` needs nobody else's and is a member.
//! They take their arguments themselves.

mod engine;
mod gateway;
mod prompt;
mod radix;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use warmpath_testbed::build;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What Warmpath adds to Envoy: requests per second, processor time, latency
    Gateway(gateway::Arguments),
    /// Real vLLM servers behind round robin and behind Warmpath
    Engine(engine::Arguments),
    /// Every routing policy on simulated workers, in virtual time
    #[command(disable_help_flag = true)]
    Routing(Passed),
    /// Token ids to block hashes, beside dynamo-kv-router's
    #[command(disable_help_flag = true)]
    Blocks(Passed),
    /// The prefix index beside dynamo-kv-router's three
    #[command(disable_help_flag = true)]
    Radix(Radix),
    /// Tokenizing, and prompts as a whole, beside other tokenizers
    #[command(disable_help_flag = true)]
    Prompt(Prompt),
}

/// What the benchmark itself reads; `--help` lists it.
#[derive(clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    rest: Vec<OsString>,
}

#[derive(clap::Args)]
struct Radix {
    /// Measure events and decisions through the whole indexer instead
    #[arg(long)]
    through_indexer: bool,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    more: Passed,
}

impl Radix {
    fn passed(&self) -> Vec<OsString> {
        let json = self.json.then(|| "--json".into());
        json.into_iter().chain(self.more.rest.iter().cloned()).collect()
    }
}

#[derive(clap::Args)]
struct Prompt {
    /// Measure the filter's own in a real Envoy instead
    #[arg(long)]
    in_envoy: bool,
    /// Folder with a tokenizer.json, any number of times; the tests' small model where absent
    #[arg(long = "tokenizer", value_name = "DIR")]
    tokenizers: Vec<PathBuf>,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    more: Passed,
}

impl Prompt {
    fn passed(&self) -> Vec<OsString> {
        let mut passed = Vec::new();
        for folder in &self.tokenizers {
            passed.extend(["--tokenizer".into(), folder.into()]);
        }
        passed.extend(self.json.then(|| "--json".into()));
        passed.extend_from_slice(&self.more.rest);
        passed
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Gateway(arguments) => gateway::run(arguments).await,
        What::Engine(arguments) => engine::run(arguments).await,
        What::Blocks(passed) => program("radix", Some("blocks"), &passed.rest),
        What::Routing(passed) => package("routing", &passed.rest),
        What::Radix(arguments) if arguments.through_indexer => radix::run(arguments.json).await,
        What::Radix(arguments) => package("radix", &arguments.passed()),
        What::Prompt(arguments) if arguments.in_envoy => {
            prompt::run(&arguments.tokenizers, arguments.json).await
        }
        What::Prompt(arguments) => package("prompt", &arguments.passed()),
    }
}

/// Builds a package under `benches/` as released, and runs it.
fn package(name: &str, arguments: &[OsString]) -> Result<()> {
    program(name, None, arguments)
}

/// The same with one of a package's programs that is not its first.
fn program(name: &str, program: Option<&str>, arguments: &[OsString]) -> Result<()> {
    let manifest = build::workspace_root().join("benches").join(name).join("Cargo.toml");
    let mut command = build::cargo();
    command.args(["run", "--release", "--quiet", "--manifest-path"]).arg(manifest);
    command.args(program.into_iter().flat_map(|program| ["--bin", program]));
    // Paths among the arguments are meant from where the caller is.
    command.current_dir(std::env::current_dir()?);
    let status = command.arg("--").args(arguments).status()?;
    if !status.success() {
        bail!("the benchmark {} ended with {status}", program.unwrap_or(name));
    }
    Ok(())
}
