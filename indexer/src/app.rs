/*!
Wiring: tasks, listeners, shutdown.

The API runs on the caller's runtime. Admin has one thread with a runtime of its
own, so that a scrape of a large fleet's metrics, which takes milliseconds, is
never in front of a decision; sharing the runtime with a lower priority was
rejected, tokio has no priorities.

Listeners and the shutdown come from outside: tests bind port 0 and stop the
indexer when they are done.
*/

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use warmpath_radix::Index;

use crate::api::{self, Admin, Api, ApiMetrics, TextLimit};
use crate::book::Book;
use crate::config::Config;
use crate::fleet::{AddError, Fleet, FleetMetrics};
use crate::models::{Catalog, Names};
use crate::policy::{Policies, UnknownPolicy};
use crate::router::Router;

/// How long open connections may take to end at shutdown.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// Where the indexer is reached.
#[derive(Debug)]
pub struct Listeners {
    /// The API.
    pub api: TcpListener,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub admin: TcpListener,
    /// The API once more, and the file to remove at the end.
    pub unix: Option<(UnixListener, PathBuf)>,
}

/// Why the indexer did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address can not be listened on.
    #[error("{what} {at} can not be listened on: {source}")]
    Bind {
        /// Which configuration field.
        what: &'static str,
        /// The address or path.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// A worker of the configuration can not be added.
    #[error(transparent)]
    Worker(#[from] AddError),
    /// No policy of the configured name.
    #[error(transparent)]
    Policy(#[from] UnknownPolicy),
    /// The HTTP client for probes and scrapes can not be made.
    #[error("the client for probes: {0}")]
    Client(#[from] reqwest::Error),
    /// A listener or the admin thread failed.
    #[error("serving failed: {0}")]
    Serve(#[from] io::Error),
}

impl Listeners {
    /// Binds what a configuration names.
    pub fn bind(config: &Config) -> Result<Self, RunError> {
        let tcp = |what: &'static str, at: SocketAddr| {
            TcpListener::bind(at).map_err(|source| RunError::Bind {
                what,
                at: at.to_string(),
                source,
            })
        };
        let unix = |path: &PathBuf| match bind_unix(path) {
            Ok(listener) => Ok((listener, path.clone())),
            Err(source) => {
                Err(RunError::Bind { what: "unix_socket", at: path.display().to_string(), source })
            }
        };
        Ok(Self {
            api: tcp("listen", config.listen)?,
            admin: tcp("admin", config.admin)?,
            unix: config.unix_socket.as_ref().map(unix).transpose()?,
        })
    }
}

/// Binds a Unix socket, over the file of a process that died, but over nothing else.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    UnixListener::bind(path)
}

/// Runs the indexer until `shutdown`. Needs a tokio runtime around it, best a
/// multi-threaded one.
pub async fn run(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    // Whatever way this ends, every task ends with it.
    let _guard = shutdown.clone().drop_guard();
    // The followers' own: the last snapshot is of what they had.
    let followers = CancellationToken::new();
    let _followers_guard = followers.clone().drop_guard();
    let api = assemble(&config, &followers)?;
    let snapshots = {
        let (streams, index) = (Arc::clone(api.fleet.streams()), config.index.clone());
        let stop = shutdown.clone();
        tokio::spawn(async move {
            if let Some(path) = index.snapshot {
                streams.keep(path, index.snapshot_threshold, stop).await;
            }
        })
    };
    let compiling = tokio::spawn(Arc::clone(&api.catalog).compile());
    let predictions = {
        let (api, stop) = (Arc::clone(&api), shutdown.clone());
        tokio::spawn(async move { api.router.keep_predictions(stop).await })
    };
    let holds = {
        let (api, stop) = (Arc::clone(&api), shutdown.clone());
        tokio::spawn(async move { api.router.serve_held(stop).await })
    };
    let admin = start_admin(Arc::clone(&api), listeners.admin, shutdown.clone())?;

    let paths = api::api(Arc::clone(&api), config.max_body_bytes, shutdown.clone());
    listeners.api.set_nonblocking(true)?;
    let address = listeners.api.local_addr()?;
    // Headers and body may leave in two segments; with Nagle's algorithm the
    // second waits up to 40 ms for the peer's delayed acknowledgement.
    let tcp = tokio::net::TcpListener::from_std(listeners.api)?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let tcp =
        axum::serve(tcp, paths.clone()).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let unix_path = listeners.unix.as_ref().map(|(_, path)| path.clone());
    let unix = async {
        let Some((listener, _)) = listeners.unix else { return Ok(()) };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        axum::serve(listener, paths)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned())
            .await
    };
    tracing::info!(%address, unix_socket = ?unix_path, workers = config.workers.len(), "serving");
    let served = async { tokio::try_join!(async { tcp.await }, unix) };
    let end = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_ORDERS).await;
    };
    let outcome = tokio::select! {
        outcome = served => outcome.map(drop),
        () = end => Ok(()),
    };
    shutdown.cancel();
    compiling.abort();
    let _ended = snapshots.await;
    if let Some(path) = &config.index.snapshot {
        api.fleet.streams().finish(path).await;
    }
    followers.cancel();
    api.fleet.join().await;
    let _ended = tokio::join!(predictions, holds);
    if let Some(path) = unix_path {
        let _ = std::fs::remove_file(path);
    }
    let joined = tokio::task::spawn_blocking(move || admin.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        tracing::error!("the admin thread panicked");
    }
    Ok(outcome?)
}

/// Makes every component of a configuration and starts to follow its workers.
fn assemble(config: &Config, shutdown: &CancellationToken) -> Result<Arc<Api>, RunError> {
    let names = Arc::new(Names::new(config.models.clone()));
    let stale = Duration::from_millis(config.load_stale_ms);
    let index = Arc::new(Index::with_ceiling(config.index.max_bytes as usize));
    let book = Arc::new(Book::new(config.book.clone(), stale));
    let mut fleet = Fleet::new(index, Arc::clone(&names), book, stale, shutdown.child_token())?;
    if !config.kv_events {
        fleet = fleet.without_events();
    }
    if let Some(path) = config.index.snapshot.as_ref().filter(|_| !config.index.reset) {
        fleet.streams().read(path);
    }
    for worker in &config.workers {
        fleet.add(worker.clone())?;
    }
    let fleet = Arc::new(fleet);
    let policies = Policies::new(config.policy.clone())?;
    let router = Router::new(Arc::clone(&fleet), Arc::clone(&names), policies, config.decisions)
        .predicting(config.predict)
        .saturating(config.saturation.clone());
    Ok(Arc::new(Api {
        catalog: Arc::new(Catalog::new(Arc::clone(&names))),
        fleet,
        names,
        router,
        texts: TextLimit::new(config.max_text_bytes),
        metrics: ApiMetrics::default(),
    }))
}

fn start_admin(
    api: Arc<Api>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<std::thread::JoinHandle<()>> {
    let mut registry = Registry::with_prefix("warmpath");
    api.router.metrics.register(&mut registry);
    api.metrics.register(&mut registry);
    api.catalog.register(&mut registry);
    api.fleet.book().register(&mut registry);
    FleetMetrics::register(Arc::clone(&api.fleet), &mut registry);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let paths = api::admin(Arc::new(Admin::new(api, registry)));
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let serve = async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            // The page of a scrape must not hold up the end: no grace here.
            tokio::select! {
                outcome = async { axum::serve(listener, paths).await } => outcome,
                () = shutdown.cancelled() => Ok(()),
            }
        };
        if let Err(error) = runtime.block_on(serve) {
            tracing::error!(%error, "the admin port failed; the API goes on");
        }
    })
}
