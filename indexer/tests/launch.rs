//! `launch-workers` as a process, with a program that stands for the engine.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Far longer than anything here takes; a test that hangs is one that fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Launcher {
    child: Child,
    http: u16,
    log: tempfile::NamedTempFile,
}

/// The first of `count` ports in a row that nobody listens on.
fn ports(count: u16) -> u16 {
    loop {
        let base = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if base < 60_000 && (base..base + count).all(free) {
            return base;
        }
    }
}

fn command(http: u16, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warmpath-indexer"));
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_engine.py");
    command.arg("launch-workers").args(["--model", "m", "--num-workers", "2"]);
    command.arg("--command").arg(engine);
    for (flag, base) in [
        ("--base-http-port", http),
        ("--base-kv-events-port", http + 2),
        ("--base-replay-port", http + 4),
    ] {
        command.args([flag, &base.to_string()]);
    }
    command.args(more).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("WARMPATH_BLOCK_SIZE");
    command
}

impl Launcher {
    fn start(more: &[&str], environment: &[(&str, &str)]) -> Self {
        let http = ports(6);
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = command(http, more);
        command.stderr(log.reopen().unwrap()).envs(environment.iter().copied());
        Self { child: command.spawn().unwrap(), http, log }
    }

    /// The list of workers, which comes once all are healthy.
    fn list(&mut self) -> String {
        let lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        // Two lines of headings and one each of a model and of the workers.
        lines.take(5).map(|line| line.unwrap() + "\n").collect()
    }

    fn log(&self) -> String {
        let mut text = String::new();
        self.log.reopen().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until the log has `count` times this.
    fn wait_log(&self, wanted: &str, count: usize) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.matches(wanted).count() >= count {
                return log;
            }
            assert!(Instant::now() < end, "no {count} times {wanted:?} in\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn helpers(&self) -> Vec<Pid> {
        let log = self.log();
        let helpers =
            log.lines().filter_map(|line| line.split_once("helper ")?.1.split(' ').next());
        helpers.map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the launcher does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn crash(&self, worker: u16) {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.http + worker)).unwrap();
        stream.write_all(b"POST /crash HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        // It ends instead of answering.
        let _ = stream.read(&mut [0; 1]);
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // A failed test leaves no engines behind: asked to end, the launcher stops them.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn assert_gone(processes: &[Pid]) {
    let end = Instant::now() + PATIENCE;
    for process in processes {
        // A killed process is there until whoever adopted it has asked for its status.
        let zombie = || {
            let status = std::fs::read_to_string(format!("/proc/{process}/stat"));
            status.is_ok_and(|status| status.contains(") Z "))
        };
        while test_kill_process(*process).is_ok() && !zombie() {
            assert!(Instant::now() < end, "process {process} still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn workers_are_listed_when_healthy_and_end_with_everything_they_started() {
    let mut launcher = Launcher::start(&["--block-size", "32", "--", "--seed", "7"], &[]);
    let list = launcher.list();
    assert!(
        list.starts_with("models:\n- {\"block_size\":32,\"name\":\"m\"}\nworkers:\n"),
        "{list}"
    );
    for worker in 0..2 {
        let endpoint = format!("\"endpoint\":\"127.0.0.1:{}\"", launcher.http + worker);
        assert!(list.contains(&endpoint), "{list}");
    }
    let log = launcher.wait_log("helper ", 2);
    assert!(log.contains("worker 1: arguments: serve m --served-model-name m"), "{log}");
    assert!(log.contains("--seed 7"), "{log}");
    assert!(log.contains("gpus 0") && log.contains("gpus 1"), "{log}");
    let helpers = launcher.helpers();
    launcher.signal(Signal::TERM);
    assert!(launcher.wait().success(), "{}", launcher.log());
    assert_eq!(helpers.len(), 2);
    assert_gone(&helpers);
}

#[test]
fn a_crashed_worker_is_reported_its_helpers_ended_and_it_is_started_again() {
    let mut launcher = Launcher::start(&["--restarts", "1"], &[]);
    launcher.list();
    launcher.wait_log("helper ", 2);
    launcher.crash(1);
    let log = launcher.wait_log("healthy again", 1);
    assert!(log.contains("ended with exit status: 7"), "{log}");
    let helpers = launcher.helpers();
    assert_eq!(helpers.len(), 3, "{log}");
    // Which of the first two was the crashed worker's, the order of lines does not say.
    launcher.crash(1);
    launcher.wait_log("ended too often", 1);
    launcher.crash(0);
    launcher.wait_log("healthy again", 2);
    launcher.signal(Signal::INT);
    assert!(launcher.wait().success(), "{}", launcher.log());
    assert_gone(&launcher.helpers());
}

#[test]
fn a_worker_that_can_not_start_ends_all_with_its_last_words() {
    let mut launcher = Launcher::start(&[], &[("FAKE", "exit")]);
    assert!(!launcher.wait().success());
    let log = launcher.log();
    assert!(log.contains("ended with exit status: 3 before it was healthy"), "{log}");
    assert!(log.contains("  no such model"), "{log}");
}

#[test]
fn a_worker_that_does_not_end_when_asked_is_killed() {
    let mut launcher = Launcher::start(&["--stop-timeout", "1"], &[("FAKE", "deaf")]);
    launcher.list();
    launcher.signal(Signal::TERM);
    assert!(launcher.wait().success());
    assert!(launcher.log().contains("did not end within 1 s: killed"), "{}", launcher.log());
    assert_gone(&launcher.helpers());
}

#[test]
fn a_closed_log_does_not_keep_it_from_stopping() {
    let http = ports(6);
    let mut command = command(http, &[]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let mut launcher = Launcher { child, http, log: tempfile::NamedTempFile::new().unwrap() };
    assert!(launcher.list().contains("workers:"));
    launcher.signal(Signal::TERM);
    assert!(launcher.wait().success());
}

#[test]
fn a_taken_port_is_named_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = command(port, &[]).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&format!("127.0.0.1:{port} (worker 0)")), "{error}");
    assert!(error.contains("--base-http-port"), "{error}");
    assert!(!error.contains("arguments:"), "{error}");
}

#[test]
fn a_dry_run_prints_commands_and_list_and_starts_nothing() {
    let output = command(8100, &["--dry-run"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("# CUDA_VISIBLE_DEVICES=0 "), "{text}");
    assert!(text.contains("\nworkers:\n- {"), "{text}");
}
