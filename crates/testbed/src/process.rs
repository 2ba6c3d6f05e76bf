//! A child process that ends with its handle, its output in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running child; killed by its process id when dropped, on panic too.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("can not write {}", log.display()))?;
        let copy = out.try_clone().context("can not duplicate a file handle")?;
        command.stdin(Stdio::null()).stdout(out).stderr(copy);
        let child = command
            .spawn()
            .with_context(|| format!("can not start {name} ({:?})", command.get_program()))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until `ready` says so; an early end or `limit` passing is an
    /// error with the last lines of the log.
    pub async fn wait_ready<F, R>(&mut self, limit: Duration, mut ready: F) -> Result<()>
    where
        F: FnMut() -> R,
        R: Future<Output = bool>,
    {
        let end = Instant::now() + limit;
        loop {
            if ready().await {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                bail!("{} ended with {status}:\n{}", self.name, self.tail());
            }
            if Instant::now() >= end {
                bail!("{} is not ready after {limit:?}:\n{}", self.name, self.tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end by itself, and ends it where it has not after `limit`.
    pub fn stop(&mut self, limit: Duration) {
        // The standard library can only kill, and calling libc would be unsafe
        // code for one line.
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let end = Instant::now() + limit;
        while self.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Ends it at once and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only for a child that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
