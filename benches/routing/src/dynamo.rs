//! Dynamo's selection service from its wheel, asked in the same run.
//!
//! A Python program holds the service and is driven over its pipes ([`PROGRAM`] has
//! the protocol). The service takes events from ZMQ sockets and has no clock to set:
//! each question therefore waits until every event before it is applied, first
//! tokens and ends are told at once, and the expiry of requests, the only thing that
//! the wall's clock decides, is turned off. Prompts come as Dynamo's own block hashes,
//! which are ours too. Rejected: its HTTP service (a round trip for every event) and
//! its Rust crate (the wheel is what its users run).

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hashbrown::HashMap;
use serde_json::json;
use warmpath_indexer::load::Report;

use crate::chooser::{Chooser, Life};
use crate::engine::Change;
use crate::load::Request;

const PROGRAM: &str = include_str!("dynamo.py");

/// A running selection service.
pub(crate) struct Dynamo {
    child: Child,
    ask: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
    block: usize,
    /// Local hash of each block's tokens, by its name.
    locals: HashMap<u64, u64>,
    /// Release of the wheel.
    pub(crate) version: String,
}

impl Dynamo {
    /// Starts it with a Python that has the wheel `ai-dynamo-runtime`.
    pub(crate) fn start(python: &Path, workers: usize, block: u64) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can not start {}", python.display()))?;
        let ask = BufWriter::new(child.stdin.take().context("no pipe to it")?);
        let answers = BufReader::new(child.stdout.take().context("no pipe from it")?);
        let block = usize::try_from(block)?;
        let locals = HashMap::new();
        let version = String::new();
        let mut dynamo = Self { child, ask, answers, block, locals, version };
        dynamo.say(&json!({"workers": workers, "block_size": block}))?;
        dynamo.version = dynamo.answer()?;
        if let Some(error) = dynamo.version.strip_prefix("error: ") {
            bail!("{error}");
        }
        Ok(dynamo)
    }

    fn say(&mut self, line: &serde_json::Value) -> Result<()> {
        writeln!(self.ask, "{line}").context("Dynamo's service is gone")
    }

    fn answer(&mut self) -> Result<String> {
        self.ask.flush().context("Dynamo's service is gone")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("Dynamo's service ended; its message is above");
        }
        Ok(line.trim().to_owned())
    }

    fn hashes(&mut self, blocks: &[u64]) -> Vec<u64> {
        let size = self.block;
        let local = |name: u64| {
            let tokens = vec![u32::try_from(name).unwrap_or(u32::MAX); size];
            warmpath_blocks::local_hashes(&tokens, size, warmpath_blocks::SEED)[0]
        };
        blocks
            .iter()
            .map(|name| *self.locals.entry(*name).or_insert_with(|| local(*name)))
            .collect()
    }
}

impl Chooser for Dynamo {
    fn choose(&mut self, number: usize, request: &Request, _: Instant) -> Result<usize> {
        let local = self.hashes(&request.blocks);
        let sequence = warmpath_blocks::sequence_hashes(&local);
        let signed =
            |hashes: Vec<u64>| -> Vec<i64> { hashes.into_iter().map(u64::cast_signed).collect() };
        self.say(&json!(["?", number, request.tokens, signed(local), signed(sequence)]))?;
        self.answer()?.parse().context("Dynamo's service answered no worker")
    }

    fn changed(&mut self, worker: usize, changes: Vec<Change>) -> Result<()> {
        for change in changes {
            self.say(&match change {
                Change::Stored(parent, blocks) => json!(["s", worker, parent, blocks]),
                Change::Removed(block) => json!(["r", worker, block]),
            })?;
        }
        Ok(())
    }

    // It counts what it routed, and asks engines for nothing.
    fn load(&mut self, _: usize, _: Report, _: Instant) {}

    fn life(&mut self, number: usize, life: Life) -> Result<()> {
        self.say(&match life {
            Life::First => json!(["p", number]),
            Life::Done => json!(["f", number]),
        })
    }

    fn tick(&mut self, _: Instant) {}
}

impl Drop for Dynamo {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
