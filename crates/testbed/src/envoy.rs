//! The real Envoy: found or fetched, configured from `envoy/*.yaml`, run.

mod config;
mod fetch;
mod process;

pub use config::{Config, Upstream, read_yaml};
pub use fetch::{VERSION, locate};
pub use process::{Envoy, validate};
