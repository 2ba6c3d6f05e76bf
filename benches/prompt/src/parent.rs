//! What is measured, how often, and where texts come from.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use crate::child::{self, Machine};
use crate::engines::Engine;
use crate::folder::{self, repository};
use crate::measure::Figures;
use crate::report::{Model, Report};

/// Measures tokenizing, and prompts as a whole, beside other tokenizers
#[derive(Parser)]
#[command(name = "cargo xtask bench prompt")]
struct Arguments {
    /// Folder with a tokenizer.json, any number of times; the tests' small model where absent
    #[arg(long = "tokenizer", value_name = "DIR")]
    tokenizers: Vec<PathBuf>,
    /// Which engines; all where absent
    #[arg(long = "engine", value_name = "NAME")]
    engines: Vec<Engine>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Leave V8 out
    #[arg(long)]
    native_only: bool,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(crate) fn run() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.tokenizers.is_empty() {
        arguments.tokenizers.push(repository().join("tests/models/tiny"));
    }
    if arguments.engines.is_empty() {
        arguments.engines = Engine::ALL.to_vec();
    }
    let v8 = if arguments.native_only { None } else { child::v8()? };
    let mut report = Report { rounds: arguments.rounds, models: Vec::new() };
    for tokenizer in &arguments.tokenizers {
        let scratch = tempfile::tempdir().context("can not make a temporary folder")?;
        let made = folder::make(scratch.path(), tokenizer)?;
        if let Some(reason) = &made.refused {
            eprintln!("no table is made of {}: {reason}", tokenizer.display());
        }
        let mut runs: Vec<(bool, Engine, Vec<Figures>)> = Vec::new();
        let native = Machine::Native;
        let mut contenders: Vec<(&Machine, Engine)> =
            arguments.engines.iter().map(|&engine| (&native, engine)).collect();
        if let Some(v8) = &v8 {
            let both = [Engine::Warmpath, Engine::HuggingFace];
            contenders.extend(
                both.into_iter()
                    .filter(|engine| arguments.engines.contains(engine))
                    .map(|e| (v8, e)),
            );
        }
        for round in 1..=arguments.rounds {
            for &(machine, engine) in &contenders {
                let in_v8 = matches!(machine, Machine::V8(_));
                let place = if in_v8 { "in V8" } else { "natively" };
                eprintln!("round {round} of {}: {engine} {place}", arguments.rounds);
                let figures = child::ask(machine, engine, scratch.path())?;
                match runs.iter_mut().find(|run| (run.0, run.1) == (in_v8, engine)) {
                    Some(run) => run.2.push(figures),
                    None => runs.push((in_v8, engine, vec![figures])),
                }
            }
        }
        let name = tokenizer.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report.models.push(Model::of(name, &made, &runs));
    }
    report.print();
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}
