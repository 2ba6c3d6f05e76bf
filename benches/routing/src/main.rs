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

mod engine;
mod load;
mod measure;
mod oracle;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use warmpath_indexer::policy::{Settings, names};

use engine::Costs;
use load::Load;
use measure::Figures;
use world::Setup;

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
    /// Policies to compare [default: all]
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// Loads to run [default: all]: conversation, shared-prefix, hot-prefix, no-sharing, agentic
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// The Mooncake conversation trace
    #[arg(long, default_value = "../shared/traces/conversation_trace.jsonl")]
    trace: PathBuf,
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
    /// End with one JSON object
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut all = Vec::new();
    for load in loads(&arguments)? {
        for share in &arguments.capacity {
            all.extend(compare(&arguments, &load, *share)?);
        }
    }
    if arguments.json {
        println!("{}", serde_json::json!({ "workers": arguments.workers, "runs": all }));
    }
    Ok(())
}

/// Makes a load of so many requests.
type Make = fn(usize) -> Load;

fn loads(arguments: &Arguments) -> Result<Vec<Load>> {
    let number = arguments.requests;
    let wanted =
        |name: &str| arguments.loads.is_empty() || arguments.loads.iter().any(|one| one == name);
    let mut loads = Vec::new();
    if wanted("conversation") {
        if arguments.trace.exists() {
            let mut load = load::trace(&arguments.trace)?;
            load.requests.truncate(arguments.trace_requests.unwrap_or(usize::MAX));
            loads.push(load);
        } else {
            eprintln!("{} is not there: made loads only", arguments.trace.display());
        }
    }
    let made: [(&str, Make); 4] = [
        ("shared-prefix", load::shared_prefix),
        ("hot-prefix", load::hot_prefix),
        ("no-sharing", load::no_sharing),
        ("agentic", load::agentic),
    ];
    loads.extend(made.iter().filter(|(name, _)| wanted(name)).map(|(_, make)| make(number)));
    Ok(loads)
}

/// Runs every policy on a load at a share of capacity, and prints the table.
fn compare(arguments: &Arguments, load: &Load, percent: f64) -> Result<Vec<Figures>> {
    let costs = Costs::default();
    let bound = oracle::bound(load, costs, arguments.workers);
    let wanted = bound.work / arguments.workers as f64 / (percent / 100.0);
    let paced = load.faster(load.seconds() / wanted);
    println!(
        "\n{} at {percent} % of {} workers: {} requests in {:.0} s; pooled cache {:.1} % cached, \
         prefill alone {:.0} ms",
        load.name,
        arguments.workers,
        load.requests.len(),
        paced.seconds(),
        100.0 * bound.cached as f64 / bound.tokens as f64,
        1000.0 * bound.ttft_mean,
    );
    println!("{}", measure::HEADER);
    let parameters: serde_json::Value =
        arguments.parameters.as_deref().map_or(Ok(serde_json::json!({})), serde_json::from_str)?;
    let mut all = Vec::new();
    for name in names() {
        if !arguments.policies.is_empty() && arguments.policies.iter().all(|one| one != name) {
            continue;
        }
        let tree = serde_json::json!({ "policy": name, "policy_seed": 1, "policies": parameters });
        let setup = Setup {
            workers: arguments.workers,
            costs,
            settings: Settings::from_tree(&tree)?,
            lifecycle: !arguments.no_lifecycle,
        };
        let figures = Figures::of(&paced, percent, name, &world::run(&paced, &setup)?, &bound);
        println!("{figures}");
        all.push(figures);
    }
    Ok(all)
}
