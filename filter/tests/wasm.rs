//! The compiled module under a small proxy-wasm host of our own.
//!
//! One test for everything: the modules are built and compiled once a process.

mod host;
mod scenarios;

use host::gateway::Start;
use host::wasm::{self, Wasm};
use warmpath_testbed::build::{Module, filter_wasm};

macro_rules! in_the_module {
    ($($file:ident: $name:ident,)*) => {
        fn every_scenario(start: Start) {
            $(
                println!("{}", stringify!($name));
                scenarios::$file::$name(start);
            )*
        }
    };
}

scenarios::every_scenario!(in_the_module);

#[test]
fn the_module_exports_what_is_needed_and_behaves_as_the_state_machine() {
    only_the_callbacks_that_are_needed_are_exported();
    it_is_small();
    every_scenario(Wasm::simd);
    every_scenario(Wasm::scalar);
}

/// Each of Envoy's worker threads holds its own copy of what is in it, and all of it
/// is compiled before Envoy listens.
fn it_is_small() {
    let bytes = filter_wasm(Module::Simd).unwrap().metadata().unwrap().len();
    assert!(bytes <= 1_500_000, "{bytes} bytes");
}

fn only_the_callbacks_that_are_needed_are_exported() {
    let (mut exports, imports) = wasm::names();
    exports.sort();
    assert_eq!(
        exports,
        [
            "_initialize",
            "proxy_abi_version_0_2_1",
            "proxy_on_configure",
            "proxy_on_context_create",
            "proxy_on_delete",
            "proxy_on_grpc_close",
            "proxy_on_grpc_receive",
            "proxy_on_http_call_response",
            "proxy_on_memory_allocate",
            "proxy_on_request_body",
            "proxy_on_request_headers",
            "proxy_on_request_trailers",
            "proxy_on_response_body",
            "proxy_on_response_headers",
            "proxy_on_response_trailers",
            "proxy_on_tick",
        ],
        "each callback that is exported costs a call into the VM"
    );
    let foreign = |name: &&String| {
        !name.starts_with("env.proxy_") && !name.starts_with("wasi_snapshot_preview1.")
    };
    let foreign: Vec<_> = imports.iter().filter(foreign).collect();
    assert!(foreign.is_empty(), "Envoy does not offer {foreign:?}");
}
