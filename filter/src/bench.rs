//! The prompt's way to hashes, timed where it runs: inside Envoy's V8.
//!
//! In builds with the feature `bench` only, which are never released
//! (`warmpath_testbed::build::Module::Bench`). A request
//!
//! ```text
//! POST /warmpath/bench/v1/chat/completions?model=NAME&runs=20&cache=0&slice=0&prime=0
//! ```
//!
//! goes to no worker: its body is run through the pipeline `runs` times, all in one
//! callback, and the answer is the JSON of [`Timings`]. The path behind
//! `/warmpath/bench` names the endpoint. All parameters but `model` may be absent:
//!
//! - `runs`: how often (1).
//! - `cache`: bytes of the segment cache that each run begins with, empty (0, no cache).
//! - `slice`: bytes of text for each slice of the job (0, all in one).
//! - `chunk`: bytes of body for each chunk that is read (0, all in one).
//! - `prime`: so many of the body's first bytes are a body of their own, which is put
//!   through each run's cache before the clock starts, such as a chat's first turn.
//! - `cap`: tokens after which hashing stops (none).
//!
//! A replayed network would only blur it; timing natively says little of V8.

use std::time::Duration;

use serde::Serialize;
use warmpath_prompt::{BodyReader, Cache, Endpoint, Hashed, Job, Progress, Request, Want};

use crate::host::Host;
use crate::models::Usable;
use crate::root::Root;

const PREFIX: &str = "/warmpath/bench/";

/// What a request asks to be timed.
#[derive(Clone, Debug)]
pub struct Bench {
    endpoint: Endpoint,
    model: String,
    runs: usize,
    cache: usize,
    slice: usize,
    chunk: usize,
    prime: usize,
    cap: Option<u64>,
    /// Bytes of the body that Envoy holds.
    pub size: usize,
}

/// The answer.
#[derive(Debug, Default, Serialize)]
pub struct Timings {
    /// Why there are no runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Bytes of the body that was run, without the priming one.
    bytes: usize,
    /// The VM's memory after all runs.
    memory_bytes: usize,
    /// The VM's callbacks that took in the model's files, each piece: copy, digest; and the
    /// one that made the model of them.
    load_ns: Vec<u64>,
    runs: Vec<Run>,
}

/// One run; nanoseconds.
#[derive(Debug, Default, Serialize)]
struct Run {
    /// Reading the JSON, chunk by chunk, and the request out of it.
    read_ns: u64,
    /// Up to the first slice: the model's templates rendered.
    begin_ns: u64,
    /// All slices: encode and hash.
    advance_ns: u64,
    /// The longest single step: a chunk, the beginning, or a slice.
    longest_ns: u64,
    slices: usize,
    tokens: u64,
    reused_tokens: u64,
}

impl Bench {
    /// The order in this `:path`, where it is one.
    pub fn of_path(path: &str) -> Option<Self> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let endpoint = Endpoint::of_path(&format!("/{}", path.strip_prefix(PREFIX)?))?;
        let value = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name)
        };
        let number = |name| value(name).and_then(|(_, number)| number.parse::<usize>().ok());
        Some(Self {
            endpoint,
            model: value("model").map(|(_, name)| name.to_owned())?,
            runs: number("runs").unwrap_or(1),
            cache: number("cache").unwrap_or(0),
            slice: number("slice").filter(|slice| *slice > 0).unwrap_or(usize::MAX),
            chunk: number("chunk").filter(|chunk| *chunk > 0).unwrap_or(usize::MAX),
            prime: number("prime").unwrap_or(0),
            cap: number("cap").map(|cap| cap as u64),
            size: 0,
        })
    }

    /// Runs it all and answers the client.
    pub fn answer(&self, host: &dyn Host, root: &Root) {
        let timings = self
            .timings(host, root)
            .unwrap_or_else(|error| Timings { error: Some(error), ..Timings::default() });
        let status = if timings.error.is_none() { 200 } else { 422 };
        let body = serde_json::to_vec(&timings).unwrap_or_default();
        // Then the client waits in vain, which a benchmark may.
        let _unheard = host.answer(status, &[("content-type", "application/json")], &body);
    }

    fn timings(&self, host: &dyn Host, root: &Root) -> Result<Timings, String> {
        let body = host.request_body(0, self.size).map_err(|status| status.to_string())?;
        let (prime, body) = body.split_at_checked(self.prime).ok_or("prime is beyond the body")?;
        let usable = root.models().find(&self.model).map_err(|why| why.name().to_owned())?;
        let runs = (0..self.runs).map(|_| {
            let mut cache = Cache::new(self.cache);
            if !prime.is_empty() {
                self.run(host, &usable, &mut cache, prime)?;
            }
            self.run(host, &usable, &mut cache, body)
        });
        let runs = runs.collect::<Result<Vec<_>, String>>()?;
        let load_ns = root.loads().iter().copied().map(nanoseconds).collect();
        Ok(Timings { error: None, bytes: body.len(), memory_bytes: memory(), load_ns, runs })
    }

    fn run(
        &self,
        host: &dyn Host,
        usable: &Usable<'_>,
        cache: &mut Cache,
        body: &[u8],
    ) -> Result<Run, String> {
        let mut run = Run::default();
        let mut last = host.now();
        let mut lap = |longest: &mut u64| {
            let now = host.now();
            let took = nanoseconds(now.saturating_sub(last));
            last = now;
            *longest = took.max(*longest);
            took
        };
        let mut reader = BodyReader::new(self.endpoint);
        for chunk in body.chunks(self.chunk) {
            reader.feed(chunk, cache).map_err(|refusal| refusal.to_string())?;
            run.read_ns = run.read_ns.saturating_add(lap(&mut run.longest_ns));
        }
        let request = reader.finish().map_err(|refusal| refusal.to_string())?;
        run.read_ns = run.read_ns.saturating_add(lap(&mut run.longest_ns));
        let mut job = self.begin(usable, request, cache)?;
        run.begin_ns = lap(&mut run.longest_ns);
        let hashed: Hashed = loop {
            run.slices = run.slices.saturating_add(1);
            let progress = job.advance(usable.model, cache, self.slice);
            let progress = progress.map_err(|refusal| refusal.to_string())?;
            run.advance_ns = run.advance_ns.saturating_add(lap(&mut run.longest_ns));
            if let Progress::Done(hashed) = progress {
                break hashed;
            }
        };
        run.tokens = hashed.tokens;
        run.reused_tokens = hashed.reused_tokens;
        Ok(run)
    }

    fn begin(
        &self,
        usable: &Usable<'_>,
        request: Request,
        cache: &mut Cache,
    ) -> Result<Job, String> {
        let want = Want {
            block_sizes: &usable.entry.block_sizes,
            seed: warmpath_blocks::seed(None, None),
            max_tokens: self.cap,
            digest: false,
        };
        // 2026-11-20: a template that writes the date writes the same one each time.
        let job = usable.model.begin(request, 1_795_176_000, want, cache);
        job.map_err(|refusal| refusal.to_string())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn memory() -> usize {
    #[cfg(target_family = "wasm")]
    return core::arch::wasm32::memory_size(0).saturating_mul(65_536);
    #[cfg(not(target_family = "wasm"))]
    0
}
