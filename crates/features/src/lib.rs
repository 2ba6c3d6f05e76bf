/*!
One set of features for the dependencies that several of our programs share.

Cargo unites features over the packages that one command selects, so that
`cargo run -p xtask`, `cargo build -p warmpath-indexer` and `cargo test
--workspace` would each compile serde_json, hyper and all that stands on them
anew: some minutes on a small machine, for nothing. The programs depend on this
crate, which has no code and asks for what the whole workspace asks for.

The usual tool for this is cargo-hakari, which writes such a crate; it was left
out because the list is short. The filter does not depend on this crate: there
every feature is bytes in each of Envoy's VMs.
*/
