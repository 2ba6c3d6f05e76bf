//! One measurement in this process, and how the parent asks for it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, PositionalIndexer};

use crate::Arguments;
use crate::cache::Fleet;
use crate::dynamo::{Pooled, Single};
use crate::engine::{Engine, Kind};
use crate::measure::{self, Figures, Load, Part};
use crate::ours::Ours;
use crate::trace::{self, Block, Generated};

/// Generated requests where there is no trace.
const GENERATED: usize = 12_000;

/// What one process is to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) kind: Kind,
    pub(crate) part: Part,
    pub(crate) workers: usize,
    pub(crate) blocks: usize,
}

/// Has another process measure.
pub(crate) fn ask(task: Task, arguments: &Arguments) -> Result<Figures> {
    let this = std::env::current_exe().context("can not find this program")?;
    let mut command = Command::new(this);
    command.args(["--index", &task.kind.word()]);
    command.args(["--part", &task.part.word()]);
    command.args(["--workers", &task.workers.to_string()]);
    command.args(["--blocks", &task.blocks.to_string()]);
    if let Some(trace) = &arguments.trace {
        command.arg("--trace").arg(trace);
    }
    if let Some(requests) = arguments.requests {
        command.args(["--requests", &requests.to_string()]);
    }
    let output =
        command.stderr(Stdio::inherit()).output().context("can not start a measurement")?;
    ensure!(
        output.status.success(),
        "{} of {} failed: {}",
        task.part.word(),
        task.kind.name(),
        output.status
    );
    serde_json::from_slice(&output.stdout).context("a measurement printed something else")
}

/// Measures here.
pub(crate) fn measure(kind: Kind, part: Part, arguments: &Arguments) -> Result<Figures> {
    let growing = matches!(part, Part::Growth | Part::GrownHeap);
    let source = Source {
        trace: arguments.trace.clone().filter(|_| !growing),
        requests: arguments.requests.unwrap_or(if arguments.trace.is_some() {
            usize::MAX
        } else {
            GENERATED
        }),
        endless: growing,
        workers: arguments.workers,
        capacity: arguments.blocks / arguments.workers,
    };
    Ok(match kind {
        Kind::Warmpath => shared(Ours::new, part, source, arguments.blocks)?,
        Kind::RadixTree => alone(Single::new, part, source, arguments.blocks)?,
        Kind::Concurrent => shared(
            Pooled::<ConcurrentRadixTreeCompressed>::concurrent,
            part,
            source,
            arguments.blocks,
        )?,
        Kind::Positional => {
            shared(Pooled::<PositionalIndexer>::positional, part, source, arguments.blocks)?
        }
    })
}

struct Source {
    trace: Option<PathBuf>,
    requests: usize,
    endless: bool,
    workers: usize,
    capacity: usize,
}

impl Source {
    fn load(&self) -> Result<Load> {
        let requests: Box<dyn Iterator<Item = Vec<Block>>> = match &self.trace {
            Some(path) => Box::new(trace::read(path)?.into_iter().take(self.requests)),
            None if self.endless => Box::new(Generated::new()),
            None => Box::new(Generated::new().take(self.requests)),
        };
        Ok(Load { requests, fleet: Fleet::new(self.workers, self.capacity) })
    }
}

fn shared<E: Engine + Sync>(
    make: fn() -> E,
    part: Part,
    source: Source,
    blocks: usize,
) -> Result<Figures> {
    if part != Part::Trace {
        return alone(make, part, source, blocks);
    }
    let index = make();
    let (mut figures, last) = measure::trace(&index, &mut source.load()?);
    let (quiet, loaded) = measure::readers(&index, &last);
    figures.quiet = Some(quiet);
    figures.loaded = Some(loaded);
    Ok(figures)
}

/// Without readers beside a writer.
fn alone<E: Engine>(make: fn() -> E, part: Part, source: Source, blocks: usize) -> Result<Figures> {
    match part {
        Part::Trace => Ok(measure::trace(&make(), &mut source.load()?).0),
        Part::Check => measure::check(make, || source.load()),
        Part::Growth => Ok(measure::growth(make, source.load()?, blocks)),
        Part::GrownHeap => measure::grown_heap(make, || source.load(), blocks),
    }
}
