//! Everything through the real Envoy with the compiled filter.
//!
//! Each test has a stack of its own on free ports, so they run side by side.
//! None asserts a time; waiting is for a state, and bounded.

mod answers;
mod bodies;
mod configs;
mod containers;
mod endpoints;
mod engines;
mod exactness;
mod failures;
mod manifests;
mod predicted;
mod routing;
mod saturation;
mod seeds;
mod snapshots;
mod steering;
mod support;
