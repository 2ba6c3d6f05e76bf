//! Token for token what the engine computes, and block for block what it has.

use anyhow::Result;
use warmpath_testbed::build::Module;
use warmpath_testbed::corpus::corpus;
use warmpath_testbed::exact;
use warmpath_testbed::stack::{Stack, StackOptions, engines};

async fn is_exact(options: StackOptions) -> Result<()> {
    let stack = Stack::start(options).await?;
    let result =
        exact::check(&stack.gateway, &engines(&stack.fleet), &corpus("tiny", 0), |_| ()).await;
    assert!(result.is_complete(), "{result:#?}");
    assert!(result.requests >= 60);
    assert!(result.cached_tokens > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_hashed_and_predicted_exactly() -> Result<()> {
    is_exact(StackOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_without_simd_is_as_exact() -> Result<()> {
    let mut options = StackOptions::default();
    options.gateway.module = Module::Scalar;
    is_exact(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_whose_hashes_differ_are_predicted_as_exactly() -> Result<()> {
    let mut options = StackOptions::default();
    options.sim.block_size = 32;
    options.sim.divergent_hashes = true;
    options.sim.byte_hashes = true;
    is_exact(options).await
}
