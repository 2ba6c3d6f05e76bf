/*!
The filter that runs in Envoy: request body → token ids → block hashes → the
indexer's decision → the header that Envoy routes by.

A request is held while the indexer is asked, for `deadline_ms` at most; for
whatever goes wrong it goes on untouched, by Envoy's own load balancing, and a
counter says why. Nothing here may panic: a VM that dies takes its held
requests with it.

The state machine ([`vm`] → [`root`], [`stream`]) knows its host as a trait
([`host`]), so that all of it runs in native tests; only `host/envoy.rs`, which
is in the wasm module alone, makes the host calls and exports the callbacks.
The proxy-wasm SDK is not used at all; [`host`] says why.
*/

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod asking;
#[cfg(feature = "bench")]
pub mod bench;
pub mod breaker;
pub mod channel;
pub mod config;
pub mod decide;
pub mod download;
pub mod host;
pub mod inbound;
pub mod lifecycle;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod models;
pub mod pace;
pub mod patience;
pub mod reason;
pub mod root;
pub mod stream;
pub mod task;
pub mod tasks;
pub mod upload;
pub mod vm;
