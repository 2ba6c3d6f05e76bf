//! The bootstraps that are shipped.

use anyhow::Result;
use tempfile::TempDir;
use warmpath_testbed::build;
use warmpath_testbed::envoy::{Config, validate};

pub(crate) const BOOTSTRAPS: [&str; 2] =
    ["envoy/bootstrap.yaml", "envoy/bootstrap-cluster-header.yaml"];

#[test]
fn envoy_accepts_every_bootstrap() -> Result<()> {
    let folder = TempDir::new()?;
    for path in BOOTSTRAPS {
        // As it is, but for the place where the module was built.
        let mut config = Config::read(path)?;
        config.module(&build::filter_wasm(build::Module::Simd)?)?;
        validate(&config, folder.path())?;
    }
    Ok(())
}

#[test]
fn the_shipped_filter_configuration_is_one_that_the_filter_accepts() -> Result<()> {
    for path in BOOTSTRAPS {
        let mut config = Config::read(path)?;
        let mut fields = Vec::new();
        config.settings(|settings| {
            fields = settings.as_object().expect("an object").keys().cloned().collect();
        })?;
        assert!(fields.contains(&"indexer_cluster".to_owned()), "{path}: {fields:?}");
    }
    Ok(())
}

#[test]
fn admin_is_never_reachable_from_outside() -> Result<()> {
    for path in BOOTSTRAPS {
        let config = Config::read(path)?;
        let address = config.value().pointer("/admin/address/socket_address/address");
        assert_eq!(address.and_then(|address| address.as_str()), Some("127.0.0.1"), "{path}");
    }
    Ok(())
}
