/*!
`cargo xtask bench routing`: every policy on simulated workers, in virtual time.

The decision path is the indexer's own, with its index, its book and its reports;
engines and clock are simulated, so that an hour on 64 workers takes seconds. The
same requests arrive at the same moments for every policy. Replaying against real
engines was rejected for this: one policy would take an hour and eight GPUs.

Capacity is what an ideal fleet could do: the work of all requests with the cached
tokens of one pooled cache, spread evenly. The arrivals are sped up or slowed down
to a share of that.
*/

mod checks;
mod chooser;
mod decision_time;
mod dynamo;
mod engine;
mod load;
mod measure;
mod oracle;
mod plot;
mod report;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use warmpath_indexer::policy::{Settings, names};

use chooser::{Chooser, Knowing, Ours};
use dynamo::Dynamo;
use engine::Costs;
use load::Load;
use measure::Figures;
use report::Comparison;

/// Compares the routing policies on simulated workers in virtual time
#[derive(Parser)]
#[command(name = "cargo xtask bench routing")]
struct Arguments {
    /// Number of workers
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// Shares of the fleet's capacity, in percent
    #[arg(long, value_delimiter = ',', default_values_t = [70.0, 95.0])]
    capacity: Vec<f64>,
    /// Policies to compare, dynamo among them [default: all]
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// A Python with the wheel ai-dynamo-runtime, for Dynamo's selection service
    #[arg(long, default_value = "python3")]
    dynamo_python: PathBuf,
    /// Loads to run [default: all]: conversation, shared-prefix, hot-prefix, no-sharing, agentic
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// The Mooncake conversation trace; without it only loads that are made are run
    #[arg(long, env = "WARMPATH_TRACE", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Requests of each load that is made
    #[arg(long, default_value_t = 8000)]
    requests: usize,
    /// Requests of the trace to use, from its beginning [default: all]
    #[arg(long)]
    trace_requests: Option<usize>,
    /// Parameters of the policies, as the configuration's `policies` in JSON
    #[arg(long)]
    parameters: Option<String>,
    /// Do not report first tokens and ends: what an engine tells of itself is all
    #[arg(long)]
    no_lifecycle: bool,
    /// Milliseconds for which a worker is predicted to hold what was routed to it
    #[arg(long, default_value_t = 0)]
    predict_ms: u64,
    /// Engines do not tell of their caches: what is predicted is all
    #[arg(long)]
    no_kv_events: bool,
    /// Measure instead how long a decision takes inside the indexer: 64 workers, 2,000 blocks
    #[arg(long)]
    decision_time: bool,
    /// Folder for a report with plots: routing.md and SVG files
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// End with one JSON object
    #[arg(long)]
    json: bool,
}

/// The name that Dynamo's selection service has among the policies.
const DYNAMO: &str = "dynamo";
/// Pure overlap, whatever the load: nobody's policy, but what the others improve on.
const OVERLAP: &str = "overlap";

impl Arguments {
    /// The policies that are wanted, and that there are.
    fn policies(&self) -> Result<Vec<&'static str>> {
        let known: Vec<_> = names().into_iter().chain([OVERLAP, DYNAMO]).collect();
        let unknown = self.policies.iter().find(|one| !known.contains(&one.as_str()));
        if let Some(name) = unknown {
            bail!("there is no policy {name}; there are {}", known.join(", "));
        }
        let wanted =
            |name: &&str| self.policies.is_empty() || self.policies.iter().any(|one| one == name);
        Ok(known.into_iter().filter(wanted).collect())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.decision_time {
        let figures = decision_time::run(64, 2000, 20_000)?;
        if arguments.json {
            println!("{}", serde_json::json!({ "decision_time": figures }));
        }
        return Ok(());
    }
    let mut policies = arguments.policies()?;
    if policies.contains(&DYNAMO) {
        match Dynamo::start(&arguments.dynamo_python, 1, 64) {
            Ok(dynamo) => println!("dynamo is ai-dynamo-runtime {}", dynamo.version),
            Err(error) if arguments.policies.is_empty() => {
                eprintln!(
                    "dynamo: skipped ({error:#}); --dynamo-python takes a Python that has it"
                );
                policies.retain(|name| *name != DYNAMO);
            }
            Err(error) => {
                return Err(error.context("--policies names dynamo, which --dynamo-python lacks"));
            }
        }
    }
    let mut all = Vec::new();
    for load in loads(arguments)? {
        for share in &arguments.capacity {
            all.push(compare(arguments, &policies, &load, *share)?);
        }
    }
    if let Some(folder) = &arguments.report {
        report::write(folder, &all)?;
    }
    if arguments.json {
        let runs: Vec<&Figures> = all.iter().flat_map(|one| &one.policies).collect();
        let all = serde_json::json!({ "workers": arguments.workers, "bounds": all, "runs": runs });
        println!("{all}");
    }
    Ok(())
}

/// Makes a load of so many requests.
type Make = fn(usize) -> Load;

const MADE: [(&str, Make); 4] = [
    ("shared-prefix", load::shared_prefix),
    ("hot-prefix", load::hot_prefix),
    ("no-sharing", load::no_sharing),
    ("agentic", load::agentic),
];
const TRACE: &str = "conversation";

fn loads(arguments: &Arguments) -> Result<Vec<Load>> {
    let known = || std::iter::once(TRACE).chain(MADE.iter().map(|(name, _)| *name));
    if let Some(name) = arguments.loads.iter().find(|one| known().all(|name| name != *one)) {
        bail!("there is no load {name}; there are {}", known().collect::<Vec<_>>().join(", "));
    }
    let wanted =
        |name: &str| arguments.loads.is_empty() || arguments.loads.iter().any(|one| one == name);
    let mut loads = Vec::new();
    match &arguments.trace {
        Some(trace) if wanted(TRACE) => {
            let mut load = load::trace(trace)?;
            load.requests.truncate(arguments.trace_requests.unwrap_or(usize::MAX));
            loads.push(load);
        }
        None if wanted(TRACE) => eprintln!("{TRACE}: skipped, there is no --trace"),
        _ => {}
    }
    let made = MADE.iter().filter(|(name, _)| wanted(name));
    loads.extend(made.map(|(_, make)| make(arguments.requests)));
    Ok(loads)
}

/// Runs every policy on a load at a share of capacity, and prints the table.
fn compare(
    arguments: &Arguments,
    policies: &[&'static str],
    load: &Load,
    percent: f64,
) -> Result<Comparison> {
    let costs = Costs::default();
    let bound = oracle::bound(load, costs, arguments.workers);
    let wanted = bound.work / arguments.workers as f64 / (percent / 100.0);
    let paced = load.faster(load.seconds() / wanted);
    let mut comparison = Comparison::new(&paced, percent, arguments.workers, &bound);
    println!("\n{}: {}\n{}", comparison.title, comparison.detail, measure::HEADER);
    for name in policies {
        let mut chooser = chooser(arguments, name, load.block)?;
        let outcome = world::run(&paced, arguments.workers, costs, &mut *chooser)?;
        let figures = Figures::of(&paced, percent, name, &outcome, &bound);
        println!("{figures}");
        comparison.policies.push(figures);
    }
    comparison.checks = checks::of(&comparison.policies);
    comparison.checks.iter().for_each(|check| println!("{check}"));
    Ok(comparison)
}

fn chooser(arguments: &Arguments, name: &str, block: u64) -> Result<Box<dyn Chooser>> {
    if name == DYNAMO {
        let dynamo = Dynamo::start(&arguments.dynamo_python, arguments.workers, block)?;
        return Ok(Box::new(dynamo));
    }
    let tree = if name == OVERLAP {
        let always = serde_json::json!({ "cache_threshold": 0.0, "balance_abs_threshold": 1e12 });
        serde_json::json!({ "policy": "two-tier", "policy_seed": 1, "policies": { "two-tier": always } })
    } else {
        let parameters: serde_json::Value = arguments
            .parameters
            .as_deref()
            .map_or(Ok(serde_json::json!({})), serde_json::from_str)?;
        serde_json::json!({ "policy": name, "policy_seed": 1, "policies": parameters })
    };
    let settings = Settings::from_tree(&tree)?;
    let knowing = Knowing {
        lifecycle: !arguments.no_lifecycle,
        kv_events: !arguments.no_kv_events,
        predict_ms: arguments.predict_ms,
        kv_blocks: Costs::default().cache_tokens / block,
    };
    Ok(Box::new(Ours::new(arguments.workers, block, settings, knowing)?))
}
