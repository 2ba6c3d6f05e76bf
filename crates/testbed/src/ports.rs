//! Ports that nobody uses, for many stacks side by side.
//!
//! The kernel's own choice (port 0) comes from the range that outgoing
//! connections use too, so a process that is killed and restarted on its port
//! could find a client's connection there. These ports lie below that range;
//! different processes begin at different places, and each is tried once
//! before it is handed out.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

const FIRST: u16 = 11_000;
const COUNT: u16 = 20_000;

/// A loopback port that nothing listens on; never the same twice in a process.
pub fn free() -> Result<u16> {
    run(1)
}

/// The first of `count` consecutive such ports.
pub fn run(count: u16) -> Result<u16> {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut offset = next.unwrap_or_else(|| rand::random_range(0..COUNT));
    for _ in 0..COUNT / count.max(1) {
        if offset + count > COUNT {
            offset = 0;
        }
        let first = FIRST + offset;
        offset += count;
        if (first..first + count).all(|port| is_free(port).is_ok()) {
            *next = Some(offset);
            return Ok(first);
        }
    }
    bail!("no {count} free ports between {FIRST} and {}", FIRST + COUNT)
}

/// Says which program's default port is taken, and what to do about it.
pub fn require(port: u16, what: &str, flag: &str) -> Result<()> {
    is_free(port).with_context(|| {
        format!("port {port} ({what}) is taken; end what uses it or choose another with {flag}")
    })
}

fn is_free(port: u16) -> std::io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

/// The loopback address with this port.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = format!("{:#}", require(port, "Envoy", "--http-port").unwrap_err());
        assert!(error.contains(&port.to_string()) && error.contains("--http-port"), "{error}");
    }

    #[test]
    fn runs_do_not_overlap() {
        let first = run(4).unwrap();
        let second = run(4).unwrap();
        assert!(first.abs_diff(second) >= 4);
    }
}
