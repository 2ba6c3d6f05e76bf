//! Every listener is bound before anything starts, so a taken port is an error that names it.

use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context, bail};

use crate::Options;

/// How often free neighbouring ports are looked for.
const ATTEMPTS: usize = 100;

/// The listeners of one worker's life.
pub(crate) struct Sockets {
    pub(crate) http: TcpListener,
    pub(crate) metrics: TcpListener,
    /// One for each rank, on neighbouring ports.
    pub(crate) events: Vec<TcpListener>,
    /// One for each rank, on neighbouring ports.
    pub(crate) replay: Vec<TcpListener>,
}

/// Where a worker listens; port 0 is any free one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) events: SocketAddr,
    pub(crate) replay: SocketAddr,
}

impl Addresses {
    /// The addresses of worker `index` as the options want them.
    pub(crate) fn of(options: &Options, index: usize) -> anyhow::Result<Addresses> {
        let address = |flag: &str, base: u16, step: usize| {
            let port = match base {
                0 => Some(0),
                _ => u16::try_from(usize::from(base) + index * step).ok(),
            };
            let port = port.with_context(|| {
                format!("{flag} {base} leaves no port for worker {index}; choose a lower one")
            })?;
            anyhow::Ok(SocketAddr::new(options.host, port))
        };
        let ranks = options.ranks as usize;
        Ok(Addresses {
            http: address("--base-http-port", options.base_http_port, 1)?,
            metrics: address("--base-metrics-port", options.base_metrics_port, 1)?,
            events: address("--base-kv-events-port", options.base_kv_events_port, ranks)?,
            replay: address("--base-replay-port", options.base_replay_port, ranks)?,
        })
    }

    /// Binds them all.
    pub(crate) fn bind(&self, ranks: u32) -> anyhow::Result<Sockets> {
        let one = |flag, address| {
            neighbours(flag, address, 1)?.pop().context("a bound listener is missing")
        };
        Ok(Sockets {
            http: one("--base-http-port", self.http)?,
            metrics: one("--base-metrics-port", self.metrics)?,
            events: neighbours("--base-kv-events-port", self.events, ranks)?,
            replay: neighbours("--base-replay-port", self.replay, ranks)?,
        })
    }
}

impl Sockets {
    /// Where they really listen.
    pub(crate) fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            http: self.http.local_addr()?,
            metrics: self.metrics.local_addr()?,
            events: self.events.first().context("a worker has no rank")?.local_addr()?,
            replay: self.replay.first().context("a worker has no rank")?.local_addr()?,
        })
    }
}

/// `count` listeners on the ports from that of `first` on.
fn neighbours(flag: &str, first: SocketAddr, count: u32) -> anyhow::Result<Vec<TcpListener>> {
    let (host, port) = (first.ip(), first.port());
    if port != 0 {
        return row(host, port, count).with_context(|| {
            let last = u32::from(port) + count - 1;
            let ports = if count > 1 { format!("{port} to {last}") } else { port.to_string() };
            format!("{host} port {ports}: stop who listens there or change {flag}")
        });
    }
    for _ in 0..ATTEMPTS {
        let head = TcpListener::bind(first).with_context(|| format!("{host}: no free port"))?;
        let next = head.local_addr()?.port().checked_add(1);
        let rest = match next {
            _ if count == 1 => Some(Vec::new()),
            Some(next) => row(host, next, count - 1).ok(),
            None => None,
        };
        if let Some(rest) = rest {
            return Ok([head].into_iter().chain(rest).collect());
        }
    }
    bail!("{host}: no {count} free ports side by side; name them with {flag}")
}

fn row(host: IpAddr, port: u16, count: u32) -> std::io::Result<Vec<TcpListener>> {
    let bind = |offset: u32| {
        let port = u16::try_from(u32::from(port) + offset).map_err(std::io::Error::other)?;
        TcpListener::bind(SocketAddr::new(host, port))
    };
    (0..count).map(bind).collect()
}
