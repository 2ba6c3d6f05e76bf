//! The binary: command line in, library called, exit status out.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use warmpath_indexer::app::{self, Listeners};
use warmpath_indexer::cli::{Cli, Command};
use warmpath_indexer::config::{Config, Flags, LogFormat};
use warmpath_indexer::{doctor, launch, recording, tokens};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve(&cli.flags),
        Some(Command::Tokens { model_path, engine }) => {
            let output = io::BufWriter::new(io::stdout().lock());
            tokens::run(&model_path, engine, io::stdin().lock(), output).map_err(Into::into)
        }
        Some(Command::Doctor(flags)) => doctor(&flags),
        Some(Command::Replay { files, block_size }) => replay(&files, block_size),
        Some(Command::LaunchWorkers(arguments)) => launch_workers(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: &Flags) -> anyhow::Result<()> {
    log_to_stderr(flags.log_format);
    let config = Config::load(flags)?;
    let listeners = Listeners::bind(&config)?;
    until_signal("api", |shutdown| async { Ok(app::run(config, listeners, shutdown).await?) })
}

fn doctor(flags: &Flags) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    anyhow::ensure!(
        !config.workers.is_empty(),
        "no worker is configured; name a file with --config"
    );
    let runtime = tokio::runtime::Runtime::new().context("the runtime can not start")?;
    let findings = runtime.block_on(doctor::examine(&config));
    findings.iter().for_each(|finding| println!("{finding}"));
    let wrong = findings.iter().filter(|finding| finding.found.is_err()).count();
    anyhow::ensure!(wrong == 0, "{wrong} of {} are wrong; see above", findings.len());
    Ok(())
}

fn launch_workers(arguments: launch::Arguments) -> anyhow::Result<()> {
    log_to_stderr(LogFormat::Text);
    until_signal("launch", |shutdown| launch::run(arguments, shutdown))
}

/// Runs until it is done; the token is cancelled when the process is to end.
fn until_signal<F>(name: &str, work: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
        .context("the runtime can not start")?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(shutdown.clone()));
        work(shutdown).await
    })
}

fn replay(files: &[PathBuf], block_size: Option<u32>) -> anyhow::Result<()> {
    let report = recording::replay_files(files, block_size)?;
    print!("{report}");
    anyhow::ensure!(report.is_clean(), "the recordings are not clean; see above");
    Ok(())
}

async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    tracing::info!("stopping");
}

fn log_to_stderr(format: LogFormat) {
    // The ZMQ library warns of every attempt to reach an engine that is away; that
    // it is away is said once by the code that waits for it.
    let filter =
        EnvFilter::try_from_env("WARMPATH_LOG").unwrap_or_else(|_| "info,zeromq=error".into());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Else it says on stderr that stderr is closed, which panics.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}
