//! One worker's processes: started, watched, restarted, stopped.

use std::collections::VecDeque;
use std::io::Write;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::engine::Spec;

/// How often health is asked for.
const EVERY: Duration = Duration::from_millis(250);
/// Lines of a log that an error repeats.
const TAIL: usize = 20;
/// Health after which a crash is none of a series.
const SOUND: Duration = Duration::from_secs(600);
/// Pause before the first restart, doubled for each in a row.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A worker that was started.
pub(super) struct Worker {
    spec: Spec,
    stopping: Duration,
    running: Running,
}

/// A server and whatever it started; all end when dropped.
struct Running {
    child: Child,
    /// None once it was ended: then its number may become somebody else's.
    group: Option<Pid>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Worker {
    /// Starts it; `stopping` is how long it may take to end by itself.
    pub(super) fn start(spec: Spec, stopping: Duration) -> Result<Self> {
        let running = Running::start(&spec)?;
        Ok(Self { spec, stopping, running })
    }

    /// Returns when it is healthy; its end, and `patience` passing, are errors.
    pub(super) async fn wait_healthy(&mut self, patience: Duration) -> Result<()> {
        let id = self.spec.id;
        let url = format!("http://{}/health", self.spec.http);
        let client = reqwest::Client::new();
        let healthy = async {
            loop {
                let answer = client.get(&url).timeout(Duration::from_secs(5)).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = healthy => Ok(()),
            status = self.running.child.wait() => {
                let status = ended(status);
                // The last lines are on their way through the pipe.
                tokio::time::sleep(EVERY).await;
                bail!("worker {id} {status} before it was healthy:\n{}", self.running.tail())
            }
            () = tokio::time::sleep(patience) => bail!(
                "worker {id} is not healthy after {} s (--start-timeout); its last lines:\n{}",
                patience.as_secs(),
                self.running.tail()
            ),
        }
    }

    /// Keeps a healthy worker running until `stop` or until it ended too often.
    pub(super) async fn keep(mut self, restarts: u32, patience: Duration, stop: CancellationToken) {
        let id = self.spec.id;
        let mut left = restarts;
        let mut healthy = Instant::now();
        loop {
            let status = tokio::select! {
                status = self.running.child.wait() => status,
                () = stop.cancelled() => return self.stop().await,
            };
            if healthy.elapsed() >= SOUND {
                left = restarts;
            }
            tracing::error!(worker = id, "{}", ended(status));
            // Its helpers hold the GPU that the next one needs.
            self.running.end();
            loop {
                if left == 0 {
                    tracing::error!(worker = id, "ended too often: not started again");
                    return;
                }
                let pause = (PAUSE * 2u32.saturating_pow(restarts - left)).min(LONGEST_PAUSE);
                left -= 1;
                tracing::warn!(worker = id, ?pause, left, "starting it again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                match Running::start(&self.spec) {
                    Ok(running) => self.running = running,
                    Err(error) => {
                        tracing::error!(worker = id, "{error:#}");
                        continue;
                    }
                }
                let outcome = tokio::select! {
                    outcome = self.wait_healthy(patience) => outcome,
                    () = stop.cancelled() => return self.stop().await,
                };
                match outcome {
                    Ok(()) => break,
                    Err(error) => tracing::error!(worker = id, "{error:#}"),
                }
            }
            tracing::info!(worker = id, "healthy again");
            healthy = Instant::now();
        }
    }

    /// Asks all its processes to end, and kills them where that takes too long.
    pub(super) async fn stop(mut self) {
        let running = &mut self.running;
        if let Some(group) = running.group {
            // It fails only where there is nothing left to end.
            let _ = kill_process_group(group, Signal::TERM);
        }
        if tokio::time::timeout(self.stopping, running.child.wait()).await.is_err() {
            let seconds = self.stopping.as_secs();
            tracing::warn!(worker = self.spec.id, "did not end within {seconds} s: killed");
        }
    }
}

impl Running {
    fn start(spec: &Spec) -> Result<Self> {
        let mut command = Command::new(&spec.program);
        command.args(&spec.arguments).envs(spec.environment.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn().with_context(|| {
            format!("worker {}: can not start {}", spec.id, spec.program.display())
        })?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
            .with_context(|| format!("worker {}: ended as it was started", spec.id))?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL)));
        if let Some(lines) = child.stdout.take() {
            tokio::spawn(forward(lines, spec.id, Arc::clone(&tail)));
        }
        if let Some(lines) = child.stderr.take() {
            tokio::spawn(forward(lines, spec.id, Arc::clone(&tail)));
        }
        Ok(Self { child, group: Some(group), tail })
    }

    /// Ends whatever is left of it. The server may be gone and its helpers not: they
    /// are of its group, whose number is nobody else's while one of them lives.
    fn end(&mut self) {
        if let Some(group) = self.group.take() {
            // It fails only where there is nothing left to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn tail(&self) -> String {
        self.tail.lock().iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Repeats what a worker prints, with its id before each line.
async fn forward(lines: impl AsyncRead + Unpin, id: u16, tail: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    // Bytes, not text: an engine's progress bars are no valid lines of anything.
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        // Where nobody reads any more the engine must not wait for a full pipe.
        let _ = writeln!(std::io::stderr(), "worker {id}: {text}");
        let mut tail = tail.lock();
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
    }
}

fn ended(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!("ended: {error}"),
    }
}
