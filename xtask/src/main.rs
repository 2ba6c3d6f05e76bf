/*!
`cargo xtask`: everything that one does with the repository beyond `cargo build`.

Plain Rust instead of scripts, so that it runs wherever the project builds; the
work itself is in `warmpath-testbed`, which the tests use too.
*/

mod bench;
mod demo;
mod dist;
mod e2e;
mod fuzz;
mod output;
mod python;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, shows, tests and packs Warmpath
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start engines, indexer and Envoy, and compare Warmpath with round robin
    Demo(demo::Arguments),
    /// Run every check and every test
    Test(test::Arguments),
    /// Check tokens and cache predictions against engines, request by request
    E2e(e2e::Arguments),
    /// Measure what things cost
    Bench(bench::Arguments),
    /// Look for inputs that break what must hold for any
    Fuzz(fuzz::Arguments),
    /// Build what is released into dist/
    Dist(dist::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Test(arguments) => test::run(&arguments),
        Command::E2e(arguments) => e2e::run(arguments).await,
        Command::Bench(arguments) => bench::run(&arguments).await,
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
