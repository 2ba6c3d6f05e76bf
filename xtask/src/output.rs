//! What people and scripts read.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

/// Prints the one JSON object that is the last line on stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Says what begins, and with the returned value's end how long it took.
pub(crate) fn step(what: &str) -> Step {
    eprintln!("{what}");
    Step { what: what.to_owned(), start: Instant::now() }
}

/// A step under way.
pub(crate) struct Step {
    what: String,
    start: Instant,
}

impl Step {
    /// Says how long it took, and returns the seconds.
    pub(crate) fn done(self) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        eprintln!("{}: {seconds:.1} s", self.what);
        seconds
    }
}

/// Progress of `total` things: one line that is rewritten on a terminal, four
/// lines in all elsewhere.
pub(crate) fn progress(what: &str, total: usize) -> impl Fn(usize) + Send + Sync + 'static {
    let what = what.to_owned();
    let terminal = std::io::stderr().is_terminal();
    move |done| {
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to be told that stderr can not be written.
        let _ = if terminal {
            let end = if done == total { "\n" } else { "" };
            write!(stderr, "\r  {what}: {done}/{total} {end}")
        } else if done == total || (done * 4) / total.max(1) != ((done - 1) * 4) / total.max(1) {
            writeln!(stderr, "  {what}: {done}/{total}")
        } else {
            Ok(())
        };
        let _ = stderr.flush();
    }
}
