/*!
The whole stack on one machine: a real Envoy with the compiled filter, the
indexer as a process of its own, engines, and clients that measure.

The demo, the end-to-end tests and the benchmarks all drive this crate, so that
what the tests prove is what the demo shows. Envoy is always the real binary,
started with the files of `envoy/` in which only ports and paths are replaced:
a mock host would repeat our own beliefs about Envoy. Containers were rejected
as the way to start things, because the tests must run wherever Rust and
Python 3 are.

Everything binds loopback, writes below the target directory or a temporary
one, and is stopped by its process id when its handle is dropped.
*/

pub mod build;
pub mod client;
pub mod corpus;
pub mod envoy;
pub mod exact;
pub mod indexer;
pub mod measure;
pub mod ports;
pub mod process;
pub mod servers;
pub mod stack;

pub mod workload;

pub use client::Client;
pub use envoy::Envoy;
pub use indexer::Indexer;
pub use stack::{Stack, StackOptions};
